//! As much of a Valkey server as a real Vault's database engine needs to make and to drop users: whatever it is
//! told, it says that it was done. So leases are compared wherever there is a real server, without a database.

use std::net::SocketAddr;
use std::time::Duration;

use leasehold::tasks::Tasks;
use tokio::io::{self, AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

pub(super) struct Valkey {
    pub(super) address: SocketAddr,
    tasks: Tasks,
}

impl Valkey {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let tasks = Tasks::new();
        let spawning = tasks.clone();
        tasks.spawn("valkey listener", async move {
            let accepting = async {
                while let Ok((stream, _)) = listener.accept().await {
                    let stopping = spawning.clone();
                    spawning.spawn("valkey connection", async move {
                        tokio::select! {
                            _ = converse(stream) => {}
                            () = stopping.stopping() => {}
                        }
                    });
                }
            };
            tokio::select! {
                () = accepting => {}
                () = spawning.stopping() => {}
            }
        });
        Self { address, tasks }
    }

    pub(super) async fn stop(self) {
        assert!(self.tasks.stop(Duration::from_secs(5)).await);
    }
}

/// A command is an array of texts, each with its length in front: `*1\r\n$4\r\nPING\r\n`.
async fn converse(stream: TcpStream) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    while let Some(parts) = number(&mut stream).await? {
        let mut command = Vec::new();
        for part in 0..parts {
            let length = number(&mut stream).await?.unwrap_or_default();
            let mut text = vec![0; length + 2];
            stream.read_exact(&mut text).await?;
            if part == 0 {
                command = text;
            }
        }
        let is_ping = command.eq_ignore_ascii_case(b"PING\r\n");
        let answer = if is_ping { "+PONG\r\n" } else { "+OK\r\n" };
        stream.write_all(answer.as_bytes()).await?;
    }
    Ok(())
}

/// What a line says behind its sign; `None` when there is no line any more.
async fn number(stream: &mut BufReader<TcpStream>) -> io::Result<Option<usize>> {
    let mut line = String::new();
    if stream.read_line(&mut line).await? == 0 {
        return Ok(None);
    }
    let digits = line.trim_end().trim_start_matches(['*', '$']);
    Ok(Some(digits.parse().map_err(io::Error::other)?))
}
