//! What each path answers. The dashboard's assets will be further paths here.

use std::sync::Arc;

use http::{
    HeaderName, HeaderValue, Method, StatusCode,
    header::{ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS},
};
use hyper::body::Incoming;
use jsonrpsee::{
    core::BoxError,
    server::{HttpBody, HttpRequest, HttpResponse, ws::is_upgrade_request},
};
use tokio::time::timeout;
use tower::{Service, ServiceExt};

use crate::{connection::Connection, limits::HEALTH_TIMEOUT, method::Transport};

/// What every answer bears: nothing here is a page, to be kept, or to be shown inside of another.
const SECURITY_HEADERS: [(HeaderName, &str); 5] = [
    (CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (REFERRER_POLICY, "no-referrer"),
    (CACHE_CONTROL, "no-store"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

const RPC: &str = "/rpc";
const HEALTH: &str = "/healthz";

/// Answers one request; `rpc` serves what JSON-RPC is for.
pub(crate) async fn answer<S>(
    mut request: HttpRequest<Incoming>,
    connection: Arc<Connection>,
    rpc: S,
) -> Result<HttpResponse, BoxError>
where
    S: Service<HttpRequest<Incoming>, Response = HttpResponse, Error = BoxError>,
{
    let method = request.method();
    let is_read = method == Method::GET || method == Method::HEAD;
    let mut response = match request.uri().path() {
        RPC => {
            let transport = if is_upgrade_request(&request) {
                Transport::WebSocket
            } else {
                Transport::Post
            };
            if transport == Transport::Post && method != Method::POST {
                not_allowed("POST", "JSON-RPC 2.0 comes by POST or over a WebSocket.")
            } else {
                request.extensions_mut().insert(connection);
                request.extensions_mut().insert(transport);
                rpc.oneshot(request).await?
            }
        }
        HEALTH if is_read => health(&connection).await,
        HEALTH => not_allowed("GET, HEAD", "Health is only asked for."),
        _ => text(
            StatusCode::NOT_FOUND,
            "There is /rpc (JSON-RPC 2.0) and /healthz here.\n",
        ),
    };
    for (name, value) in SECURITY_HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    Ok(response)
}

/// Asks the thread that owns the state.
async fn health(connection: &Connection) -> HttpResponse {
    let echo = async { connection.link()?.call("echo", None).await };
    match timeout(HEALTH_TIMEOUT, echo).await {
        Ok(Ok(_)) => text(StatusCode::OK, "ok\n"),
        Ok(Err(_)) => text(StatusCode::SERVICE_UNAVAILABLE, "the server takes no sessions\n"),
        Err(_) => text(StatusCode::SERVICE_UNAVAILABLE, "the server did not answer in time\n"),
    }
}

fn not_allowed(allowed: &'static str, why: &str) -> HttpResponse {
    let body = format!("{why} Allowed here: {allowed}.\n");
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, body);
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    response
}

fn text(status: StatusCode, body: impl Into<String>) -> HttpResponse {
    let mut response = HttpResponse::new(HttpBody::from(body.into()));
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, plain);
    response
}
