//! What can be wrong with the bytes of a request, and how each is answered.

use http::StatusCode;

/// Found before anything of the request has reached the service; none is a matter of opinion: the request
/// cannot be understood, or can be understood in two ways, or is larger or slower than is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flaw {
    RequestLine,
    Target,
    Version,
    Tls,
    Tunnel,
    LineEnd,
    Field,
    TwoHosts,
    NoHost,
    Length,
    TwoLengths,
    Coding,
    UnknownCoding,
    Expectation,
    LongTarget,
    LongHead,
    ManyFields,
    LargeBody,
    SlowHead,
}

impl Flaw {
    pub(super) fn status(self) -> StatusCode {
        match self {
            Self::RequestLine
            | Self::Target
            | Self::Tls
            | Self::LineEnd
            | Self::Field
            | Self::TwoHosts
            | Self::NoHost
            | Self::Length
            | Self::TwoLengths
            | Self::Coding => StatusCode::BAD_REQUEST,
            Self::Version => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            Self::Tunnel => StatusCode::METHOD_NOT_ALLOWED,
            Self::UnknownCoding => StatusCode::NOT_IMPLEMENTED,
            Self::Expectation => StatusCode::EXPECTATION_FAILED,
            Self::LongTarget => StatusCode::URI_TOO_LONG,
            Self::LongHead | Self::ManyFields => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::LargeBody => StatusCode::PAYLOAD_TOO_LARGE,
            Self::SlowHead => StatusCode::REQUEST_TIMEOUT,
        }
    }

    /// In Vault's shape. Nothing of the request is repeated.
    pub(super) fn json(self) -> &'static str {
        match self {
            Self::RequestLine => {
                r#"{"errors":["the first line is not a request: it is METHOD, one space, /path, one space, HTTP/1.1"]}"#
            }
            Self::Target => {
                r##"{"errors":["the request's target has a character that no target has: write %3C for <, %60 for a backtick, %23 for #, and begin with /v1/"]}"##
            }
            Self::Version => {
                r#"{"errors":["only HTTP/1.1 and HTTP/1.0 are spoken here: switch HTTP/2 with prior knowledge off"]}"#
            }
            Self::Tls => {
                r#"{"errors":["the client speaks TLS and this listener does not: set VAULT_ADDR to http://"]}"#
            }
            Self::Tunnel => {
                r#"{"errors":["CONNECT is not served: this is an API proxy, set VAULT_ADDR to it instead"]}"#
            }
            Self::LineEnd => {
                r#"{"errors":["a line of the request's head does not end with CR and LF"]}"#
            }
            Self::Field => {
                r#"{"errors":["a header line is not a name, a colon and a value: no space before the colon, no folded lines, no control characters"]}"#
            }
            Self::TwoHosts => r#"{"errors":["the request has more than one Host header"]}"#,
            Self::NoHost => r#"{"errors":["an HTTP/1.1 request has a Host header"]}"#,
            Self::Length => r#"{"errors":["Content-Length is not one number of decimal digits"]}"#,
            Self::TwoLengths => {
                r#"{"errors":["the request says its length more than once (Content-Length, Transfer-Encoding), so nobody can say where it ends: send one of them, once"]}"#
            }
            Self::Coding => {
                r#"{"errors":["Transfer-Encoding is not `chunked`, or the request is HTTP/1.0 and must have none"]}"#
            }
            Self::UnknownCoding => {
                r#"{"errors":["the only Transfer-Encoding served is `chunked` by itself"]}"#
            }
            Self::Expectation => r#"{"errors":["the only Expect served is 100-continue"]}"#,
            Self::LongTarget => r#"{"errors":["the request's target is too long"]}"#,
            Self::LongHead => {
                r#"{"errors":["the request's headers are too long, taken together"]}"#
            }
            Self::ManyFields => r#"{"errors":["the request has too many headers"]}"#,
            Self::LargeBody => {
                r#"{"errors":["the request's body is larger than this listener takes: max_request_size in its listener block sets the limit, -1 for none"]}"#
            }
            Self::SlowHead => {
                r#"{"errors":["the request's head did not come in time (http_read_header_timeout)"]}"#
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_answer_is_an_error_in_vaults_shape() {
        for flaw in [
            Flaw::RequestLine,
            Flaw::Target,
            Flaw::Version,
            Flaw::Tls,
            Flaw::Tunnel,
            Flaw::LineEnd,
            Flaw::Field,
            Flaw::TwoHosts,
            Flaw::NoHost,
            Flaw::Length,
            Flaw::TwoLengths,
            Flaw::Coding,
            Flaw::UnknownCoding,
            Flaw::Expectation,
            Flaw::LongTarget,
            Flaw::LongHead,
            Flaw::ManyFields,
            Flaw::LargeBody,
            Flaw::SlowHead,
        ] {
            let json: serde_json::Value = serde_json::from_str(flaw.json()).unwrap();
            assert_eq!(json["errors"].as_array().map(Vec::len), Some(1), "{flaw:?}");
            let status = flaw.status();
            assert!(status.is_client_error() || status.is_server_error());
        }
    }
}
