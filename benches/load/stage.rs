//! Everybody who takes part, started and checked.

use std::path::{Path, PathBuf};

use crate::contest::{Contestant, Row};
use crate::cores::Cores;
use crate::peers::find_program;
use crate::secrets::{self, Expect};
use crate::stand::Result;
use crate::stand::client::Answer;
use crate::stand::leasehold::{self, Access, Wishes};
use crate::stand::program::Program;
use crate::wrk::Target;
use crate::{bao, bare, nginx, vault};

/// All programs end with it.
pub(crate) struct Stage {
    pub(crate) directory: tempfile::TempDir,
    /// The development Vault, for what is served from memory.
    pub(crate) access: Access,
    pub(crate) contestants: Vec<Contestant>,
    pub(crate) peer: Option<PathBuf>,
    /// Who is missing, and which Vault was forwarded to.
    pub(crate) notes: Vec<String>,
    programs: Vec<Program>,
    cores: Cores,
    vault: u32,
}

impl Stage {
    /// `real` asks for forwarding to a real server where there is one.
    pub(crate) async fn set(cores: Cores, real: bool) -> Result<Self> {
        let (program, access) = vault::start(Some(cores.generator)).await?;
        let mut stage = Self {
            directory: tempfile::tempdir()?,
            access,
            contestants: Vec::new(),
            peer: find_program("bao"),
            notes: Vec::new(),
            vault: program.pid(),
            programs: vec![program],
            cores,
        };
        let answer = stage.hits().await?;
        stage.limit(&answer).await?;
        stage.nginx(&answer).await?;
        stage.forwards(real).await?;
        Ok(stage)
    }

    /// Leasehold from memory.
    async fn hits(&mut self) -> Result<Answer> {
        let config = self.configure("leasehold", &self.access)?;
        let (program, address) = leasehold::start(Some(self.cores.server), &config).await?;
        let here = |path| Target {
            address,
            path,
            token: None,
        };
        let answer = self
            .admit(Row::Kv, &program, here(secrets::KV), Expect::Hit)
            .await?;
        self.admit(Row::Leased, &program, here(secrets::LEASED), Expect::Hit)
            .await?;
        self.programs.push(program);
        Ok(answer)
    }

    async fn limit(&mut self, answer: &Answer) -> Result<()> {
        let core = Some(self.cores.server);
        let (program, address) = bare::start(core, self.path(), answer).await?;
        let target = Target {
            address,
            path: secrets::KV,
            token: None,
        };
        let sent = self.admit(Row::Bare, &program, target, Expect::Hit).await?;
        if sent.body != answer.body || sent.headers.len() != answer.headers.len() {
            return Err(format!("bare hyper sends {sent:?} in place of {answer:?}").into());
        }
        self.programs.push(program);
        Ok(())
    }

    async fn nginx(&mut self, answer: &Answer) -> Result<()> {
        let Some(program) = find_program("nginx") else {
            self.notes
                .push("nginx is not on PATH: its rows are missing.".to_owned());
            return Ok(());
        };
        let starting = nginx::start(
            self.cores.server,
            &program,
            self.path(),
            &self.access,
            answer,
        );
        let (program, address) = starting.await?;
        let here = |path| Target {
            address,
            path,
            token: None,
        };
        self.admit(Row::NginxReturn, &program, here(nginx::RETURN), Expect::Hit)
            .await?;
        self.admit(Row::NginxCache, &program, here(secrets::KV), Expect::Hit)
            .await?;
        self.programs.push(program);
        Ok(())
    }

    /// Direct calls, Leasehold's uncached way, and the peer: its hits in front of the development Vault, its
    /// forwarding in front of whatever Leasehold forwards to.
    async fn forwards(&mut self, real: bool) -> Result<()> {
        let (server, core) = (self.peer.clone().filter(|_| real), self.cores.server);
        let (upstream, access) = match &server {
            None => (self.vault, self.access.clone()),
            Some(program) => {
                let (program, access) = bao::server(self.cores.generator, program).await?;
                let pid = program.pid();
                self.programs.push(program);
                self.vault = pid;
                (pid, access)
            }
        };
        let name = if server.is_some() {
            "a real server, `bao server -dev`"
        } else {
            "the development Vault"
        };
        self.notes
            .push(format!("What is forwarded goes to {name}."));
        let path = secrets::FORWARD;
        // Of the kind that proxies bring: a server spends more on that than on its root token.
        let token = Some(secrets::log_in(&access).await?);
        let direct = Target {
            address: access.address,
            path,
            token,
        };
        secrets::check(
            "Vault",
            direct.address,
            path,
            direct.token.as_deref(),
            Expect::Answer,
        )
        .await?;
        self.contestants.push(Contestant {
            row: Row::Direct,
            pid: upstream,
            target: direct,
            upstream,
        });

        let config = self.configure("forwarding", &access)?;
        let (program, address) = leasehold::start(Some(core), &config).await?;
        let target = Target {
            address,
            path,
            token: None,
        };
        self.admit(Row::Forward, &program, target, Expect::Answer)
            .await?;
        self.programs.push(program);

        let Some(peer) = self.peer.clone() else {
            self.notes
                .push("bao is not on PATH: its rows are missing.".to_owned());
            return Ok(());
        };
        let starting = bao::proxy(core, &peer, self.path(), "peer-forwarding", &access, path);
        let (program, address) = starting.await?;
        let target = Target {
            address,
            path,
            token: None,
        };
        self.admit(Row::BaoForward, &program, target, Expect::Answer)
            .await?;
        self.programs.push(program);
        let starting = bao::proxy(
            core,
            &peer,
            self.path(),
            "peer",
            &self.access,
            secrets::LEASED,
        );
        let (program, address) = starting.await?;
        let target = Target {
            address,
            path: secrets::LEASED,
            token: None,
        };
        self.admit(Row::BaoLeased, &program, target, Expect::Hit)
            .await?;
        self.programs.push(program);
        Ok(())
    }

    /// Takes part when it answers as it should.
    async fn admit(
        &mut self,
        row: Row,
        program: &Program,
        target: Target,
        expect: Expect,
    ) -> Result<Answer> {
        let name = format!("{row:?}");
        let answer = secrets::check(&name, target.address, target.path, None, expect).await?;
        self.contestants.push(Contestant {
            row,
            pid: program.pid(),
            target,
            upstream: self.vault,
        });
        Ok(answer)
    }

    fn configure(&self, name: &str, access: &Access) -> Result<PathBuf> {
        let wishes = Wishes {
            cache: secrets::BYPASS,
            ..Wishes::default()
        };
        leasehold::configure(self.path(), name, access, wishes)
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }
}
