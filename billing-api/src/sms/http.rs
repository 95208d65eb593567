//! Any gateway that takes an HTTP request: URL, headers and body are templates over `{to_e164}`, `{to_national}`,
//! `{text}`, `{id}`, `{key}` and `{from}`, each value written as its place needs it.

use std::fmt;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::Method;
use reqwest::header::{CONTENT_TYPE, HeaderName, HeaderValue};

use super::{Message, SmsError, exchange};
use crate::outgoing::{self, BadSetting};

/// Such a gateway.
#[derive(Clone)]
pub struct Http {
    method: Method,
    url: String,
    headers: Vec<(HeaderName, String)>,
    body: Option<String>,
    body_form: Form,
    key: String,
    from: String,
    http: reqwest::Client,
}

/// How values are written in a place, so that none can end it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// In the path or the query of a URL, or in a form.
    Percent,
    /// Inside the quotes of a JSON string.
    Json,
    /// Inside an XML element or attribute.
    Xml,
    /// As it is: phones, Latin text without line breaks, settings.
    Plain,
}

/// The settings of such a gateway.
#[derive(Debug, Clone, Copy)]
pub struct HttpTemplate<'a> {
    /// `GET`, `POST` or `PUT`.
    pub method: &'a str,
    /// The URL.
    pub url: &'a str,
    /// `Name: value`, several with a line break or `|` between.
    pub headers: &'a str,
    /// The body; its form follows from the header `Content-Type`, JSON where there is none.
    pub body: Option<&'a str>,
    /// What `{key}` stands for.
    pub key: &'a str,
    /// What `{from}` stands for.
    pub from: &'a str,
}

impl Http {
    /// The gateway.
    ///
    /// # Errors
    /// Where a template is none, or a message could not arrive because phone or text are nowhere in them.
    pub fn new(template: &HttpTemplate<'_>) -> Result<Self, BadSetting> {
        let method = match template.method {
            "GET" => Method::GET,
            "POST" => Method::POST,
            "PUT" => Method::PUT,
            _ => return Err(BadSetting("EVM_SMS_METHOD is not GET, POST or PUT".into())),
        };
        let mut headers = headers(template.headers)?;
        let body = template.body.map(str::to_owned);
        let kind = headers.iter().find(|(name, _)| name == CONTENT_TYPE).map(|(_, kind)| kind.to_ascii_lowercase());
        let body_form = body_form(kind.as_deref())?;
        if body.is_some() && kind.is_none() {
            headers.push((CONTENT_TYPE, "application/json".into()));
        }
        let url = template.url.to_owned();
        let (key, from) = (template.key.to_owned(), template.from.to_owned());
        let made = Self { method, url, headers, body, body_form, key, from, http: outgoing::client()? };
        made.check()?;
        Ok(made)
    }

    /// Fills everything in once, so that what cannot work is found at the start.
    fn check(&self) -> Result<(), BadSetting> {
        let places = [Some(self.url.as_str()), self.body.as_deref()].into_iter().flatten();
        let places: Vec<_> = places.chain(self.headers.iter().map(|(_, value)| value.as_str())).collect();
        let has = |name: &str| places.iter().any(|place| place.contains(name));
        if !(has("{to_e164}") || has("{to_national}")) || !has("{text}") {
            return Err(BadSetting(
                "EVM_SMS_URL, EVM_SMS_HEADERS and EVM_SMS_BODY together need {text}, and {to_e164} or {to_national}"
                    .into(),
            ));
        }
        let message = Message { to: "+97688000000".into(), text: "\"<&>\\ 'x'".into(), id: "0".into() };
        outgoing::base_url("EVM_SMS_URL", &self.fill(&self.url, Form::Percent, &message))?;
        for (name, value) in &self.headers {
            if HeaderValue::from_str(&self.fill(value, Form::Plain, &message)).is_err() {
                return Err(BadSetting(format!("EVM_SMS_HEADERS: the value of {name} cannot stand in a header")));
            }
        }
        if let (Some(body), Form::Json) = (&self.body, self.body_form)
            && serde_json::from_str::<serde_json::Value>(&self.fill(body, Form::Json, &message)).is_err()
        {
            return Err(BadSetting("EVM_SMS_BODY is no JSON once its values are filled in".into()));
        }
        Ok(())
    }

    pub(super) async fn send(&self, message: &Message) -> Result<(), SmsError> {
        let mut request = self.http.request(self.method.clone(), self.fill(&self.url, Form::Percent, message));
        for (name, value) in &self.headers {
            request = request.header(name, self.fill(value, Form::Plain, message));
        }
        if let Some(body) = &self.body {
            request = request.body(self.fill(body, self.body_form, message));
        }
        exchange(request).await
    }

    /// Puts the values in, in one pass: what a value holds is never taken for a name.
    fn fill(&self, template: &str, form: Form, message: &Message) -> String {
        let mut filled = String::with_capacity(template.len() + 64);
        let mut rest = template;
        while let Some(open) = rest.find('{') {
            filled.push_str(&rest[..open]);
            rest = &rest[open..];
            let name = rest.find('}').map(|close| &rest[..=close]);
            let value = match name {
                Some("{to_e164}") => Some(message.to.clone()),
                Some("{to_national}") => Some(message.national()),
                Some("{text}") => Some(message.text.clone()),
                Some("{id}") => Some(message.id.clone()),
                Some("{key}") => Some(self.key.clone()),
                Some("{from}") => Some(self.from.clone()),
                _ => None,
            };
            match (name, value) {
                (Some(name), Some(value)) => {
                    filled.push_str(&form.write(&value));
                    rest = &rest[name.len()..];
                }
                // A brace of the template's own, as in JSON.
                _ => {
                    filled.push('{');
                    rest = &rest[1..];
                }
            }
        }
        filled.push_str(rest);
        filled
    }
}

impl Form {
    fn write(self, value: &str) -> String {
        match self {
            Self::Percent => utf8_percent_encode(value, NON_ALPHANUMERIC).to_string(),
            Self::Json => {
                let quoted = serde_json::Value::from(value).to_string();
                quoted[1..quoted.len() - 1].to_owned()
            }
            Self::Xml => value
                .replace('&', "&amp;")
                .replace('<', "&lt;")
                .replace('>', "&gt;")
                .replace('"', "&quot;")
                .replace('\'', "&apos;"),
            Self::Plain => value.to_owned(),
        }
    }
}

fn body_form(kind: Option<&str>) -> Result<Form, BadSetting> {
    let essence = kind.map(|kind| kind.split(';').next().unwrap_or_default().trim());
    Ok(match essence {
        None | Some("application/json") => Form::Json,
        Some("application/x-www-form-urlencoded") => Form::Percent,
        Some("application/xml" | "text/xml" | "application/soap+xml") => Form::Xml,
        Some("text/plain") => Form::Plain,
        Some(_) => {
            let known = "JSON, a form, XML or plain text";
            return Err(BadSetting(format!(
                "EVM_SMS_HEADERS: a body can be {known}, and its Content-Type is none of these"
            )));
        }
    })
}

fn headers(text: &str) -> Result<Vec<(HeaderName, String)>, BadSetting> {
    let lines = text.split(['\n', '|']).map(str::trim).filter(|line| !line.is_empty());
    let header = |line: &str| {
        let (name, value) = line.split_once(':')?;
        Some((HeaderName::from_bytes(name.trim().as_bytes()).ok()?, value.trim().to_owned()))
    };
    let bad = || BadSetting("EVM_SMS_HEADERS is written `Name: value`, several with `|` between".into());
    lines.map(|line| header(line).ok_or_else(bad)).collect()
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http").field("method", &self.method).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const PLAIN: HttpTemplate<'_> = HttpTemplate {
        method: "GET",
        url: "https://sms.example/send?key={key}&to={to_e164}&text={text}",
        headers: "",
        body: None,
        key: "k&y",
        from: "EVM",
    };

    fn message() -> Message {
        Message { to: "+97686661488".into(), text: r#"a "b" & <c> {to_e164} 100%"#.into(), id: "7".into() }
    }

    #[test]
    fn values_are_written_as_their_place_needs() {
        let gateway = Http::new(&PLAIN).unwrap();
        let url = gateway.fill(PLAIN.url, Form::Percent, &message());
        let text = "a%20%22b%22%20%26%20%3Cc%3E%20%7Bto%5Fe164%7D%20100%25";
        assert_eq!(url, format!("https://sms.example/send?key=k%26y&to=%2B97686661488&text={text}"));

        let body = r#"{"a":{"to":"{to_national}","text":"{text}","id":"{id}","from":"{from}"},"{x}":"{"}"#;
        let filled: serde_json::Value = serde_json::from_str(&gateway.fill(body, Form::Json, &message())).unwrap();
        assert_eq!(filled["a"]["to"], "86661488");
        assert_eq!(filled["a"]["text"], r#"a "b" & <c> {to_e164} 100%"#);
        assert_eq!((&filled["a"]["from"], &filled["{x}"]), (&"EVM".into(), &"{".into()));

        let form = gateway.fill("to={to_national}&text={text}", Form::Percent, &message());
        let pairs: Vec<_> = form_urlencoded::parse(form.as_bytes()).into_owned().collect();
        assert_eq!(pairs[1], ("text".into(), r#"a "b" & <c> {to_e164} 100%"#.into()));
        let xml = gateway.fill("<t a=\"{text}\"/>", Form::Xml, &message());
        assert_eq!(xml, "<t a=\"a &quot;b&quot; &amp; &lt;c&gt; {to_e164} 100%\"/>");
    }

    #[test]
    fn templates_that_cannot_work_are_found_at_the_start() {
        let json =
            HttpTemplate { url: "https://sms.example", body: Some(r#"{"t":"{text}","n":"{to_e164}"}"#), ..PLAIN };
        assert!(Http::new(&json).is_ok());
        let headers = "Authorization: Bearer {key} | Content-Type: application/x-www-form-urlencoded; charset=utf-8";
        let form = HttpTemplate { headers, body: Some("to={to_national}&text={text}"), ..json };
        assert_eq!(Http::new(&form).unwrap().body_form, Form::Percent);
        for bad in [
            HttpTemplate { method: "get", ..PLAIN },
            HttpTemplate { url: "sms.example?{to_e164}{text}", ..PLAIN },
            HttpTemplate { url: "https://sms.example?{text}", ..PLAIN },
            HttpTemplate { url: "https://sms.example?{to_e164}", ..PLAIN },
            HttpTemplate { headers: "no colon", ..PLAIN },
            HttpTemplate { headers: "X Y: z", ..PLAIN },
            HttpTemplate { headers: "Content-Type: image/png", ..json },
            HttpTemplate { body: Some(r#"{"t":{text},"n":"{to_e164}"}"#), ..json },
        ] {
            assert!(Http::new(&bad).is_err(), "{bad:?}");
        }
        assert!(!format!("{:?}", Http::new(&PLAIN).unwrap()).contains("k&y"));
    }
}
