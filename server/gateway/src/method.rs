//! The methods: OVSDB's, passed through, and `monitor_cond` as a subscription (RFC 7047 4.1, ovsdb-server(7) 4.1).

use std::{borrow::Cow, sync::Arc};

use jsonrpsee::{
    Extensions, PendingSubscriptionSink, RpcModule,
    core::{
        RegisterMethodError,
        middleware::{Batch, Notification, ResponseFuture, RpcServiceT},
    },
    server::MethodResponse,
    types::{Params, Request},
};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    connection::Connection,
    failure::Failure,
    link::{Answer, Waiting},
    monitor::Starting,
};

/// What is passed through as it is.
const CALLS: [&str; 4] = ["list_dbs", "get_schema", "get_server_id", "echo"];

const TRANSACT: &str = "transact";
const MONITOR: &str = "monitor_cond";
const MONITOR_CANCEL: &str = "monitor_cancel";

/// What the updates of a monitor are called, on the session and as notifications of a subscription.
pub(crate) const UPDATE: &str = "update2";

/// The `error` of an operation that a read-only session may not do.
const NOT_ALLOWED: &str = "not allowed";

/// How a call came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Post,
    WebSocket,
}

/// The methods, for connections whose requests bear their [`Connection`] and [`Transport`] as extensions.
pub(crate) fn module() -> Result<RpcModule<()>, RegisterMethodError> {
    let mut module = RpcModule::new(());
    for method in CALLS {
        module.register_async_method(method, move |params, _, extensions| call(method, params, extensions))?;
    }
    module.register_async_method(TRANSACT, |params, _, extensions| transact(params, extensions))?;
    module.register_subscription(MONITOR, UPDATE, MONITOR_CANCEL, |params, pending, _, extensions| {
        monitor(params, pending, extensions)
    })?;
    Ok(module)
}

async fn call(method: &'static str, params: Params<'static>, extensions: Extensions) -> Answer {
    connection(&extensions)?.link()?.call(method, params.as_str()).await
}

async fn transact(params: Params<'static>, extensions: Extensions) -> Answer {
    let connection = connection(&extensions)?;
    let results = connection.link()?.call(TRANSACT, params.as_str()).await?;
    match refused(&results).filter(|_| connection.peer.read_only) {
        Some(error) => Err(Failure::Server(error.to_owned())),
        None => Ok(results),
    }
}

async fn monitor(params: Params<'static>, pending: PendingSubscriptionSink, extensions: Extensions) {
    let link = match connection(&extensions).and_then(Connection::link) {
        Ok(link) => link,
        Err(failure) => return pending.reject(failure).await,
    };
    let number = link.next_id();
    let (name, params) = renamed(params.as_str().unwrap_or("[]"), number);
    let starting = Starting { number, name, pending };
    link.request(MONITOR, Some(&params), Waiting::Start(Box::new(starting)))
        .await;
}

fn connection(extensions: &Extensions) -> Result<&Connection, Failure> {
    match extensions.get::<Arc<Connection>>() {
        Some(connection) => Ok(connection),
        None => Err(Failure::Ended),
    }
}

/// The client's name for a monitor, and the params with a number in its place. What is not three params the server refuses as it is.
fn renamed(params: &str, number: u64) -> (Box<RawValue>, Cow<'_, str>) {
    match serde_json::from_str::<[&RawValue; 3]>(params) {
        Ok([database, name, requests]) => (name.to_owned(), format!("[{database},{number},{requests}]").into()),
        Err(_) => (RawValue::NULL.to_owned(), params.into()),
    }
}

/// The error of a transaction that was not allowed. In the results of a transaction that failed, only nulls follow the error.
fn refused(results: &RawValue) -> Option<&RawValue> {
    #[derive(Deserialize)]
    struct Failed<'a> {
        #[serde(borrow)]
        error: Cow<'a, str>,
    }
    let all: Vec<&RawValue> = serde_json::from_str(results.get()).ok()?;
    let last = all.into_iter().rfind(|result| result.get() != "null")?;
    let failed: Failed<'_> = serde_json::from_str(last.get()).ok()?;
    (failed.error == NOT_ALLOWED).then_some(last)
}

/// Answers in OVSDB's way what jsonrpsee would answer in its own.
#[derive(Clone)]
pub(crate) struct Refusing<S> {
    pub(crate) service: S,
}

impl<S> RpcServiceT for Refusing<S>
where
    S: RpcServiceT<MethodResponse = MethodResponse>,
{
    type MethodResponse = MethodResponse;
    type NotificationResponse = S::NotificationResponse;
    type BatchResponse = S::BatchResponse;

    fn call<'a>(&self, request: Request<'a>) -> impl Future<Output = MethodResponse> + Send + 'a {
        match refusal(&request) {
            Some(failure) => ResponseFuture::ready(MethodResponse::error(request.id, failure)),
            None => ResponseFuture::future(self.service.call(request)),
        }
    }

    fn batch<'a>(&self, requests: Batch<'a>) -> impl Future<Output = Self::BatchResponse> + Send + 'a {
        self.service.batch(requests)
    }

    fn notification<'a>(
        &self,
        notification: Notification<'a>,
    ) -> impl Future<Output = Self::NotificationResponse> + Send + 'a {
        self.service.notification(notification)
    }
}

fn refusal(request: &Request<'_>) -> Option<Failure> {
    let method = request.method_name();
    if method == MONITOR || method == MONITOR_CANCEL {
        let is_post = request.extensions.get() != Some(&Transport::WebSocket);
        return is_post.then(|| Failure::Method(format!("{method} needs a WebSocket at the same path")));
    }
    let is_known = method == TRANSACT || CALLS.contains(&method);
    (!is_known).then(|| {
        let known = CALLS.join(", ");
        Failure::Method(format!(
            "unknown method \"{method}\"; the gateway has {known}, {TRANSACT}, {MONITOR} and {MONITOR_CANCEL}"
        ))
    })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test panics")]
mod tests {
    use super::*;

    fn check_refused(results: &str, expected: Option<&str>) {
        let results = RawValue::from_string(results.to_owned()).unwrap();
        assert_eq!(refused(&results).map(RawValue::get), expected);
    }

    #[test]
    fn refusal_is_found_before_the_nulls() {
        let error = r#"{"details":"x","error":"not allowed"}"#;
        check_refused(&format!("[{error},null,null]"), Some(error));
        check_refused(&format!(r#"[{{"rows":[]}},{error}]"#), Some(error));
        check_refused(r#"[{"rows":[{"error":"not allowed"}]}]"#, None);
        check_refused(r#"[{"error":"timed out"},null]"#, None);
        check_refused("[]", None);
    }

    #[test]
    fn monitor_gets_a_number_for_its_name() {
        let (name, params) = renamed(r#" ["db" , [1,"x"], {"t":{}}]"#, 7);
        assert_eq!((name.get(), &*params), (r#"[1,"x"]"#, r#"["db",7,{"t":{}}]"#));
        let (name, params) = renamed("[1]", 7);
        assert_eq!((name.get(), &*params), ("null", "[1]"));
    }
}
