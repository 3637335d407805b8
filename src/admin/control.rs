//! What can be told to do: clear the cache, stop.

use std::time::Duration;

use bytes::Bytes;
use http_body::Body;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde_json::json;
use tokio::time::timeout;

use super::reply::{self, Reply};
use super::{BoxError, House};
use crate::error::{Error, Kind, Result};
use crate::upstream::broke_off;

/// Clears before it answers: the next request after the answer finds nothing of what was cleared.
pub(super) async fn clear<H, B>(house: &H, body: B) -> Reply
where
    H: House,
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    let cleared = match read(body).await.and_then(|json| parse::<H>(&json)) {
        Ok(asked) => house.clear(asked),
        Err(error) => Err(error),
    };
    match cleared {
        Ok(Some(cleared)) => reply::json(&json!({ "cleared": cleared })),
        Ok(None) => reply::json(&json!({
            "cleared": 0,
            "warnings": ["nothing is cached here: the configuration has no cache block"],
        })),
        Err(error) => reply::failed(&error),
    }
}

/// The answer goes out before the listener is closed: it is a running request of the drain it starts.
pub(super) fn quit(house: &impl House) -> Reply {
    house.quit();
    reply::json(&json!({ "stopping": true }))
}

async fn read<B>(body: B) -> Result<Bytes>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    match timeout(PATIENCE, Limited::new(body, LARGEST_REQUEST).collect()).await {
        Ok(Ok(read)) => Ok(read.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Error::new(
            Kind::TooLarge,
            format!("a request to clear the cache has at most {LARGEST_REQUEST} bytes"),
        )),
        Ok(Err(error)) => Err(broke_off(&*error)),
        Err(_) => Err(Error::new(
            Kind::BadRequest,
            "the request's body did not come to its end",
        )),
    }
}

/// What serde says is not passed on but for the place: it would quote values, and a value may be a token.
fn parse<H: House>(json: &[u8]) -> Result<H::Clear> {
    // serde would also take a list for the fields in their order, which nobody means.
    let is_object = json.trim_ascii_start().starts_with(b"{");
    let asked = is_object.then(|| serde_json::from_slice(json));
    let place = match asked {
        Some(Ok(asked)) => return Ok(asked),
        Some(Err(error)) => format!("line {}, column {}", error.line(), error.column()),
        None => "no JSON object".to_owned(),
    };
    Err(Error::new(
        Kind::BadRequest,
        format!(
            "the body is not what can be cleared ({place}): send JSON such as {{\"type\":\"all\"}} or \
             {{\"type\":\"request_path\",\"value\":\"/v1/secret/data/app\"}}"
        ),
    ))
}

/// A client that sends its few bytes more slowly than this has gone to sleep.
const PATIENCE: Duration = Duration::from_secs(10);
const LARGEST_REQUEST: usize = 64 * 1024;
