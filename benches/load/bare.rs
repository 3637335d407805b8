//! The limit: hyper and nothing else, sending the bytes and headers of a hit.

use std::convert::Infallible;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use leasehold::tasks::Tasks;
use tokio::net::TcpListener;

use crate::stand::client::Answer;
use crate::stand::program::{Program, listening_on};
use crate::stand::{Result, while_doing};

/// This program again, as a server that sends `answer` whatever it is asked.
pub(crate) async fn start(
    core: Option<usize>,
    directory: &Path,
    answer: &Answer,
) -> Result<(Program, SocketAddr)> {
    let (this, path) = (std::env::current_exe()?, write(directory, answer)?);
    let args = ["serve", "bare", &path.to_string_lossy()];
    let mut program = Program::start(core, &this, &args)?;
    let address = program.says(listening_on).await?;
    Ok((program, address))
}

/// What `serve` reads.
pub(crate) fn write(directory: &Path, answer: &Answer) -> Result<PathBuf> {
    let path = directory.join("answer.http");
    fs::write(&path, written(answer))?;
    Ok(path)
}

#[expect(
    clippy::print_stdout,
    reason = "whoever started it reads the address there"
)]
pub(crate) async fn serve(answer: &Path) -> Result<()> {
    let (headers, body) = read(&fs::read(answer).map_err(while_doing("the answer"))?)?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("listening address={}", listener.local_addr()?);
    let tasks = Tasks::new();
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let (headers, body) = (headers.clone(), body.clone());
        let service = service_fn(move |_: Request<Incoming>| {
            let mut response = Response::new(Full::new(body.clone()));
            response.headers_mut().clone_from(&headers);
            async move { Ok::<_, Infallible>(response) }
        });
        tasks.spawn("connection", async move {
            let serving = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            serving.await.ok();
        });
    }
}

/// Without what hyper adds by itself.
fn written(answer: &Answer) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in &answer.headers {
        if name != "date" && name != "content-length" {
            bytes.extend_from_slice(name.as_str().as_bytes());
            bytes.extend_from_slice(b": ");
            bytes.extend_from_slice(value.as_bytes());
            bytes.push(b'\n');
        }
    }
    bytes.push(b'\n');
    bytes.extend_from_slice(&answer.body);
    bytes
}

fn read(bytes: &[u8]) -> Result<(HeaderMap, Bytes)> {
    let text = std::str::from_utf8(bytes)?;
    let (head, body) = text.split_once("\n\n").ok_or("no empty line")?;
    let mut headers = HeaderMap::new();
    for line in head.lines() {
        let (name, value) = line.split_once(": ").ok_or("a header without a colon")?;
        headers.append(
            HeaderName::from_bytes(name.as_bytes())?,
            HeaderValue::from_str(value)?,
        );
    }
    Ok((headers, Bytes::copy_from_slice(body.as_bytes())))
}
