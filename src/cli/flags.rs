//! The command line's words: subcommands and their flags, as typed and without meaning.
//!
//! `None` is "not typed". What a flag means beside the environment and the file is `config`'s.

use std::ffi::OsString;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

use super::args::{Flag, Split, did_you_mean, is_help, split};
use crate::secret::Secret;

/// A local caching proxy for the Vault API: auto-auth, leases renewed and replaced in time, answers from memory.
#[derive(Debug, Parser)]
#[command(name = "leasehold", disable_help_subcommand = true)]
#[command(args_override_self = true, after_help = ONE_DASH)]
struct Leasehold {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run with a Vault Agent configuration
    Agent(Box<RunFlags>),
    /// Run with a Vault Proxy configuration; the same engine as `agent`
    Proxy(Box<RunFlags>),
    /// Validate a configuration without the network and show what takes effect
    Check(CheckFlags),
    /// Start a development Vault in memory and Leasehold in front of it
    #[cfg(feature = "dev")]
    Dev(DevFlags),
    /// Print the version
    Version,
}

/// Flags of `agent` and `proxy`: those of the peers.
#[derive(Debug, Default, Args)]
pub struct RunFlags {
    /// Configuration file, or directory of *.hcl and *.json files; may be given several times
    #[arg(long, value_name = "PATH")]
    pub config: Vec<String>,
    /// Exit with code 0 once a token was had and written to every sink
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true)]
    pub exit_after_auth: Option<bool>,
    #[command(flatten)]
    pub log: LogFlags,
    /// Log to standard output
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, hide = true)]
    pub combine_logs: Option<bool>,
    /// Load and validate the configuration, then exit
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, hide = true)]
    pub test_verify_only: Option<bool>,
    #[command(flatten)]
    pub http: HttpFlags,
}

#[derive(Debug, Default, Args)]
pub struct LogFlags {
    /// trace, debug, info, warn or error
    #[arg(long, value_name = "LEVEL")]
    pub log_level: Option<String>,
    /// standard or json
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<String>,
    /// Log to this file too
    #[arg(long, value_name = "PATH")]
    pub log_file: Option<String>,
    /// Begin a new log file at this size
    #[arg(long, value_name = "BYTES")]
    pub log_rotate_bytes: Option<i64>,
    /// Begin a new log file at this age: 24h
    #[arg(long, value_name = "DURATION")]
    pub log_rotate_duration: Option<String>,
    /// Rotated log files to keep: 0 all, -1 none
    #[arg(long, value_name = "NUMBER")]
    pub log_rotate_max_files: Option<i64>,
}

/// How Vault is reached, and what Leasehold's own calls carry.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Vault")]
pub struct HttpFlags {
    /// Address of Vault
    #[arg(long, value_name = "URL")]
    pub address: Option<String>,
    /// Taken and not used, as by the peers: here is the agent
    #[arg(long, value_name = "URL", hide = true)]
    pub agent_address: Option<String>,
    /// PEM file of certificate authorities
    #[arg(long, value_name = "PATH")]
    pub ca_cert: Option<String>,
    /// Directory of PEM files of certificate authorities
    #[arg(long, value_name = "PATH")]
    pub ca_path: Option<String>,
    /// PEM file of the client certificate
    #[arg(long, value_name = "PATH")]
    pub client_cert: Option<String>,
    /// PEM file of the client certificate's key
    #[arg(long, value_name = "PATH")]
    pub client_key: Option<String>,
    /// Name to ask for and to verify in Vault's certificate
    #[arg(long, value_name = "NAME")]
    pub tls_server_name: Option<String>,
    /// Do not verify Vault's certificate (dangerous)
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true)]
    pub tls_skip_verify: Option<bool>,
    /// Namespace of Leasehold's own calls
    #[arg(long, value_name = "NAME")]
    pub namespace: Option<String>,
    /// Short for -namespace, and stronger
    #[arg(long, value_name = "NAME", hide = true)]
    pub ns: Option<String>,
    /// Header of Leasehold's own calls, NAME=VALUE; may be given several times
    #[arg(long, value_name = "NAME=VALUE", value_parser = secret)]
    pub header: Vec<Secret>,
    /// Taken for the peers' sake: no redirect of Vault's is ever followed
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true)]
    pub disable_redirects: Option<bool>,
    /// Taken for the peers' sake: nothing is ever asked
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, hide = true)]
    pub non_interactive: Option<bool>,
    #[command(flatten)]
    refused: RefusedFlags,
}

/// Flags of the peers' shared command line that a daemon cannot do anything sensible with.
#[derive(Debug, Default, Args)]
struct RefusedFlags {
    #[arg(long, num_args = 0..=1, require_equals = true, hide = true)]
    output_curl_string: Option<bool>,
    #[arg(long, num_args = 0..=1, require_equals = true, hide = true)]
    output_policy: Option<bool>,
    #[arg(long, num_args = 0..=1, require_equals = true, hide = true)]
    policy_override: Option<bool>,
    #[arg(long, hide = true)]
    wrap_ttl: Option<String>,
    #[arg(long, value_parser = secret, hide = true)]
    mfa: Vec<Secret>,
    #[arg(long, value_parser = secret, hide = true)]
    unlock_key: Option<Secret>,
}

#[derive(Debug, Default, Args)]
pub struct CheckFlags {
    /// Configuration file, or directory of *.hcl and *.json files; may be given several times
    #[arg(long, value_name = "PATH")]
    pub config: Vec<String>,
    /// What to print
    #[arg(long, value_enum)]
    pub format: Option<Format>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Text,
    Json,
}

#[cfg(feature = "dev")]
#[derive(Debug, Args)]
pub struct DevFlags {
    /// Port of the development Vault on 127.0.0.1
    #[arg(long, value_name = "PORT", default_value_t = 8200)]
    pub vault_port: u16,
    /// Port of Leasehold on 127.0.0.1
    #[arg(long, value_name = "PORT", default_value_t = 8201)]
    pub port: u16,
    /// Lease of a database credential, short so that renewals can be watched
    #[arg(long, value_name = "DURATION", default_value = "30s")]
    pub ttl: String,
    /// Hard end of a database credential
    #[arg(long, value_name = "DURATION", default_value = "90s")]
    pub max_ttl: String,
    /// Life of the AppRole's tokens
    #[arg(long, value_name = "DURATION")]
    pub token_ttl: Option<String>,
    /// Hard end of the AppRole's tokens
    #[arg(long, value_name = "DURATION")]
    pub token_max_ttl: Option<String>,
    /// trace, debug, info, warn or error
    #[arg(long, value_name = "LEVEL")]
    pub log_level: Option<String>,
}

/// What a command line asks for.
#[derive(Debug)]
pub enum Invocation {
    Run {
        command: Command,
        /// For standard error, before anything else happens.
        warnings: Vec<String>,
    },
    /// For standard output, exit code 0.
    Help(String),
}

/// Why a command line cannot be followed: for standard error.
#[derive(Debug, PartialEq, Eq)]
pub struct UsageError {
    pub message: String,
    /// As the peers: 127 when there is no such subcommand, else 1.
    pub exit_code: u8,
}

/// Reads a whole command line, the program's name first.
pub fn parse(argv: impl IntoIterator<Item = OsString>) -> Result<Invocation, UsageError> {
    let mut words = Vec::new();
    for (at, word) in argv.into_iter().enumerate().skip(1) {
        let word = word.into_string();
        words.push(word.map_err(|_| wrong(format!("argument {at} is not UTF-8 text")))?);
    }
    let mut root = Leasehold::command();
    root.build();
    let Some((name, args)) = without_program(&words).split_first() else {
        return Err(no_subcommand(&mut root, None));
    };
    if is_help(name) {
        return Ok(Invocation::Help(root.render_help().to_string()));
    }
    let name = match name.as_str() {
        "-v" | "-version" | "--version" => "version",
        name => name,
    };
    let Some(subcommand) = root.find_subcommand_mut(name) else {
        return Err(no_subcommand(&mut root, Some(name)));
    };
    let (flags, warnings) = match split(&flags_of(subcommand), args) {
        Ok(Split::Help) => return Ok(Invocation::Help(subcommand.render_help().to_string())),
        Ok(Split::Flags {
            argv,
            rest,
            warning,
        }) => (argv, warnings_about(name, &rest, warning)?),
        Err(message) => return Err(wrong_flag(name, &message)),
    };
    let argv = ["leasehold", name]
        .map(str::to_owned)
        .into_iter()
        .chain(flags);
    let matches = root.try_get_matches_from(argv);
    let command = matches
        .and_then(|matches| Leasehold::from_arg_matches(&matches))
        .map_err(|error| wrong_flag(name, &one_line(&error)))?
        .command;
    refuse(&command).map_err(|message| wrong_flag(name, &message))?;
    Ok(Invocation::Run { command, warnings })
}

impl HttpFlags {
    pub fn namespace(&self) -> Option<&str> {
        self.ns.as_deref().or(self.namespace.as_deref())
    }

    /// Names and values of `-header`, in the order typed.
    pub fn headers(&self) -> impl Iterator<Item = (&str, Secret)> {
        let pairs = self
            .header
            .iter()
            .filter_map(|header| header.expose().split_once('='));
        pairs.map(|(name, value)| (name.trim(), Secret::from(value.trim())))
    }

    fn refuse(&self) -> Result<(), String> {
        for header in &self.header {
            let Some((name, _)) = header.expose().split_once('=') else {
                return Err("-header is NAME=VALUE".to_owned());
            };
            if name.trim().to_ascii_lowercase().starts_with("x-vault-") {
                return Err(format!(
                    "-header: {}: headers of Vault's own are not free",
                    name.trim()
                ));
            }
        }
        self.refused.refuse()
    }
}

impl RefusedFlags {
    fn refuse(&self) -> Result<(), String> {
        let on = |flag: Option<bool>| flag == Some(true);
        for (typed, name, why) in [
            (
                on(self.output_curl_string),
                "output-curl-string",
                "a daemon makes many calls",
            ),
            (
                on(self.output_policy),
                "output-policy",
                "a daemon makes many calls",
            ),
            (
                on(self.policy_override),
                "policy-override",
                "callers send X-Vault-Policy-Override themselves",
            ),
            (
                self.wrap_ttl.is_some(),
                "wrap-ttl",
                "a wrapped login cannot be used; wrap_ttl of a sink or method wraps a token",
            ),
            (
                !self.mfa.is_empty(),
                "mfa",
                "callers send X-Vault-MFA themselves",
            ),
            (
                self.unlock_key.is_some(),
                "unlock-key",
                "unlock a namespace with Vault's own command line",
            ),
        ] {
            if typed {
                return Err(format!("-{name} is not supported: {why}"));
            }
        }
        Ok(())
    }
}

fn refuse(command: &Command) -> Result<(), String> {
    match command {
        Command::Agent(flags) | Command::Proxy(flags) => flags.http.refuse(),
        #[cfg(feature = "dev")]
        Command::Dev(_) => Ok(()),
        Command::Check(_) | Command::Version => Ok(()),
    }
}

/// Compose files name the program again: the peers' images start a script that takes it as the first word. An
/// image without a shell has no script.
fn without_program(words: &[String]) -> &[String] {
    match words.split_first() {
        Some((name, rest)) if matches!(name.as_str(), "vault" | "bao" | "leasehold") => rest,
        _ => words,
    }
}

fn flags_of(command: &clap::Command) -> Vec<Flag<'_>> {
    let flags = command.get_arguments().filter_map(|arg| {
        Some(Flag {
            name: arg.get_long()?,
            is_bool: arg
                .get_num_args()
                .is_some_and(|count| count.min_values() == 0),
        })
    });
    flags.collect()
}

/// Stray arguments: `agent` and `proxy` go on without them, as the peers do; our own subcommands do not.
fn warnings_about(
    name: &str,
    rest: &[String],
    warning: Option<String>,
) -> Result<Vec<String>, UsageError> {
    let is_peers = matches!(name, "agent" | "proxy");
    if is_peers && rest.first().is_some_and(|word| word == "generate-config") {
        return Err(wrong_flag(name, "generate-config is not part of Leasehold"));
    }
    match warning {
        Some(warning) if is_peers => Ok(vec![warning]),
        Some(_) => Err(wrong_flag(
            name,
            "an argument is no flag (a file is given as -config=FILE)",
        )),
        None => Ok(Vec::new()),
    }
}

fn no_subcommand(root: &mut clap::Command, name: Option<&str>) -> UsageError {
    let usage = root.render_help();
    let message = match name {
        None => format!("a subcommand is missing\n\n{usage}"),
        Some("dev") => "this build has no development Vault (feature `dev`)".to_owned(),
        Some(name) => {
            let near = did_you_mean(name, root.get_subcommands().map(clap::Command::get_name));
            let near = near
                .map(|near| format!(": did you mean `{near}`?"))
                .unwrap_or_default();
            format!("no subcommand `{}`{near}\n\n{usage}", name.escape_debug())
        }
    };
    UsageError {
        message,
        exit_code: 127,
    }
}

fn wrong_flag(subcommand: &str, message: &str) -> UsageError {
    wrong(format!("{message}\n\nAll flags: leasehold {subcommand} -h"))
}

fn wrong(message: String) -> UsageError {
    UsageError {
        message,
        exit_code: 1,
    }
}

/// Clap's words for a value that does not fit its flag, with one dash. No flag that takes a secret can fail there.
fn one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let mut lines = text.lines();
    let line = lines.next().unwrap_or_default();
    let mut message = line.trim_start_matches("error: ").replace("'--", "'-");
    if let Some(values) = lines.find(|line| line.trim_start().starts_with("[possible values")) {
        message.push(' ');
        message.push_str(values.trim());
    }
    message
}

#[expect(clippy::unnecessary_wraps, reason = "the form of a value parser")]
fn secret(text: &str) -> Result<Secret, std::convert::Infallible> {
    Ok(Secret::from(text))
}

const ONE_DASH: &str = "One dash or two, `=` or a blank: -config=FILE and --config FILE are the same.\n\
                        All flags of a subcommand: leasehold <COMMAND> -h";

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Invocation, UsageError> {
        let words = ["leasehold"].into_iter().chain(line.split_whitespace());
        parse(words.map(OsString::from))
    }

    fn run(line: &str) -> (Command, Vec<String>) {
        match read(line) {
            Ok(Invocation::Run { command, warnings }) => (command, warnings),
            other => panic!("{line}: {other:?}"),
        }
    }

    fn agent(line: &str) -> RunFlags {
        match run(line) {
            (Command::Agent(flags) | Command::Proxy(flags), _) => *flags,
            (other, _) => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn the_definition_is_sound() {
        Leasehold::command().debug_assert();
    }

    #[test]
    fn every_flag_of_the_peers_is_known() {
        let flags = agent(
            "agent -config=/etc/a.hcl -config b -exit-after-auth -log-level=debug -log-format json \
             -log-file=/l -log-rotate-bytes=5 -log-rotate-duration=1h -log-rotate-max-files=-1 \
             -combine-logs -test-verify-only=0 -address=https://v -agent-address=x -ca-cert=c \
             -ca-path=p -client-cert=cc -client-key=ck -tls-server-name=n -tls-skip-verify=false \
             -namespace=a -header X-A=1 -disable-redirects -non-interactive -output-curl-string=false",
        );
        assert_eq!(flags.config, ["/etc/a.hcl", "b"]);
        assert_eq!(flags.exit_after_auth, Some(true));
        assert_eq!(flags.log.log_level.as_deref(), Some("debug"));
        assert_eq!(flags.log.log_rotate_max_files, Some(-1));
        assert_eq!(flags.test_verify_only, Some(false));
        assert_eq!(flags.http.tls_skip_verify, Some(false));
        assert_eq!(flags.http.client_key.as_deref(), Some("ck"));
        let plain = agent("proxy --config x");
        assert_eq!((plain.exit_after_auth, plain.http.address), (None, None));
        assert_eq!(agent("agent -address=").http.address.as_deref(), Some(""));
    }

    #[test]
    fn the_last_of_a_repeated_flag_wins_and_ns_beats_namespace() {
        let flags = agent("agent -address=a -exit-after-auth -address=b -exit-after-auth=f");
        assert_eq!(flags.http.address.as_deref(), Some("b"));
        assert_eq!(flags.exit_after_auth, Some(false));
        assert_eq!(
            agent("agent -ns=a -namespace=b").http.namespace(),
            Some("a")
        );
        assert_eq!(agent("agent -namespace=b").http.namespace(), Some("b"));
    }

    #[test]
    fn headers_are_read_and_never_shown() {
        let flags = agent("agent -header=X-A=canary=1 --header X-B=2");
        let headers: Vec<_> = flags
            .http
            .headers()
            .map(|(name, value)| (name, value.expose().to_owned()))
            .collect();
        assert_eq!(
            headers,
            [("X-A", "canary=1".to_owned()), ("X-B", "2".to_owned())]
        );
        assert!(!format!("{flags:?}").contains("canary"));
        for line in [
            "agent -header=canary",
            "agent -header=x-VAULT-Token=canary",
            "agent -unlock-key=canary",
            "agent -mfa=canary",
            "agent -header",
            "agent -headr=canary",
            "check -header=canary",
        ] {
            let error = read(line).unwrap_err();
            assert_eq!(error.exit_code, 1, "{line}");
            assert!(!error.message.contains("canary"), "{error:?}");
        }
    }

    #[test]
    fn our_own_subcommands() {
        let (command, _) = run("check -config=a -config b -format=json");
        let Command::Check(flags) = command else {
            panic!("{command:?}");
        };
        assert_eq!((flags.config.len(), flags.format), (2, Some(Format::Json)));
        for line in ["version", "-v", "-version", "--version"] {
            assert!(matches!(run(line).0, Command::Version), "{line}");
        }
    }

    #[test]
    fn the_program_may_be_named_again_once() {
        for name in ["vault", "bao", "leasehold"] {
            let flags = agent(&format!("{name} agent -config=/vault/config"));
            assert_eq!(flags.config, ["/vault/config"]);
            let line = format!("{name} {name} version");
            assert_eq!(read(&line).unwrap_err().exit_code, 127, "{line}");
            assert_eq!(read(name).unwrap_err().exit_code, 127, "{name}");
        }
    }

    #[cfg(feature = "dev")]
    #[test]
    fn dev_has_its_defaults() {
        let (command, _) = run("dev -vault-port 9200 -token-ttl=8s");
        let Command::Dev(flags) = command else {
            panic!("{command:?}");
        };
        assert_eq!((flags.vault_port, flags.port), (9200, 8201));
        assert_eq!((flags.ttl.as_str(), flags.max_ttl.as_str()), ("30s", "90s"));
        assert_eq!(
            (flags.token_ttl.as_deref(), flags.token_max_ttl),
            (Some("8s"), None)
        );
    }

    #[test]
    fn help_goes_out_and_names_the_flags() {
        for (line, part) in [
            ("-h", "check"),
            ("--help", "agent"),
            ("agent -h", "--exit-after-auth"),
            ("proxy -config=x -help", "--log-rotate-bytes"),
            ("check --help", "--format"),
        ] {
            let Ok(Invocation::Help(text)) = read(line) else {
                panic!("{line}");
            };
            assert!(text.contains(part), "{line}: {text}");
        }
    }

    #[test]
    fn wrong_lines_say_what_is_wrong_and_have_the_peers_codes() {
        for (line, code, message) in [
            ("", 127, "Usage: leasehold"),
            ("agnet", 127, "did you mean `agent`?"),
            ("server", 127, "no subcommand `server`"),
            ("-config=x agent", 127, "no subcommand"),
            (
                "agent -cofig=x",
                1,
                "unknown flag -cofig: did you mean -config?",
            ),
            ("agent -version", 1, "unknown flag -version"),
            ("agent -config", 1, "-config needs a value"),
            (
                "agent -exit-after-auth=yes",
                1,
                "-exit-after-auth is a boolean",
            ),
            (
                "agent -log-rotate-bytes=0x10",
                1,
                "'0x10' for '-log-rotate-bytes",
            ),
            (
                "agent -output-curl-string",
                1,
                "-output-curl-string is not supported",
            ),
            ("agent -output-policy", 1, "-output-policy is not supported"),
            (
                "agent -policy-override",
                1,
                "-policy-override is not supported",
            ),
            ("agent -wrap-ttl=5m", 1, "-wrap-ttl is not supported"),
            (
                "agent generate-config -type=env-template",
                1,
                "generate-config",
            ),
            ("check a.hcl", 1, "-config=FILE"),
            ("check -format=xml", 1, "'xml' for '-format"),
            ("agent -c x", 1, "unknown flag -c"),
        ] {
            let error = read(line).unwrap_err();
            assert_eq!(error.exit_code, code, "{line}: {}", error.message);
            assert!(error.message.contains(message), "{line}: {}", error.message);
        }
    }

    #[test]
    fn what_stands_behind_a_positional_argument_is_ignored_aloud() {
        let (command, warnings) = run("agent -config=x -exit-after-auth true -log-level=debug");
        let Command::Agent(flags) = command else {
            panic!("{command:?}");
        };
        assert_eq!(
            (flags.exit_after_auth, flags.log.log_level),
            (Some(true), None)
        );
        let [warning] = &warnings[..] else {
            panic!("{warnings:?}");
        };
        assert!(warning.contains("-log-level") && warning.contains("-exit-after-auth=false"));
    }
}
