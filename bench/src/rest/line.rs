//! A phone's line to the REST API: one connection, one request at a time.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;

use anyhow::{Context, bail};
use hyper::body::Body;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// A connection that is kept.
pub(crate) struct Line {
    requests: SendRequest<String>,
    host: String,
}

impl Line {
    /// Connects.
    pub(crate) async fn connect(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await.context("no connection")?;
        stream.set_nodelay(true)?;
        let (requests, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // A connection that breaks is told to whoever asks next.
        tokio::spawn(connection);
        Ok(Self { requests, host: address.to_string() })
    }

    /// Gets a path.
    pub(crate) async fn get(&mut self, path: &str, headers: &[(&str, &str)]) -> anyhow::Result<String> {
        self.ask(Method::GET, path, headers, String::new()).await
    }

    /// Posts JSON.
    pub(crate) async fn post(&mut self, path: &str, headers: &[(&str, &str)], body: String) -> anyhow::Result<String> {
        self.ask(Method::POST, path, headers, body).await
    }

    /// The body of the answer, whole.
    ///
    /// # Errors
    /// Where the answer is another than 200.
    async fn ask(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: String,
    ) -> anyhow::Result<String> {
        let mut request = Request::builder().method(method).uri(path).header(HOST, &self.host);
        if !body.is_empty() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.requests.ready().await?;
        let response = self.requests.send_request(request.body(body)?).await?;
        let (head, mut body) = response.into_parts();
        let mut bytes = Vec::with_capacity(usize::try_from(body.size_hint().lower())?);
        while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
            if let Ok(data) = frame?.into_data() {
                bytes.extend_from_slice(&data);
            }
        }
        let text = String::from_utf8(bytes)?;
        if head.status != StatusCode::OK {
            bail!("{path} is answered {}: {text}", head.status);
        }
        Ok(text)
    }
}

/// A text field of JSON that has no escapes in it.
pub(crate) fn field<'a>(json: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = json.split_once(&format!(r#""{name}":""#))?;
    rest.split('"').next()
}
