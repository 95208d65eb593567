//! Where settings come from: flag > environment > file > default.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

use anyhow::{Context, bail};

use super::flags::{keys, variable};

/// Where a value was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// `--http-addr`
    Flag(String),
    /// `EVM_HTTP_ADDR`
    Variable(String),
    /// `http_addr` in this file.
    File(String, String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) | Self::Variable(name) => f.write_str(name),
            Self::File(key, path) => write!(f, "{key} in {path}"),
        }
    }
}

/// Gives the text of a key and where it stands.
type Source<'a> = dyn Fn(&str) -> Option<(String, Origin)> + 'a;

/// The text of every given setting and where it came from.
pub(super) struct Values(BTreeMap<&'static str, (String, Origin)>);

impl Values {
    /// Takes each setting from the first source that gives it. An empty text gives nothing.
    pub(super) fn gather(
        flags: &BTreeMap<String, String>,
        env: impl Fn(&str) -> Option<String>,
        path: &Path,
        toml: &str,
    ) -> anyhow::Result<Self> {
        let shown = path.display().to_string();
        let file = read_file(&shown, toml)?;
        let flag = |key: &str| Some((flags.get(key)?.clone(), Origin::Flag(format!("--{}", key.replace('_', "-")))));
        let variable = |key: &str| Some((env(&variable(key))?, Origin::Variable(variable(key))));
        let file = |key: &str| Some((file.get(key)?.clone(), Origin::File(key.to_owned(), shown.clone())));
        let sources: [&Source; 3] = [&flag, &variable, &file];

        let mut values = BTreeMap::new();
        for source in sources {
            let mut here = BTreeMap::new();
            for (setting, key) in keys() {
                let Some((text, origin)) = source(&key).filter(|(text, _)| !text.is_empty()) else { continue };
                if values.contains_key(setting.key) {
                    continue;
                }
                if let Some((_, other)) = here.get(setting.key) {
                    bail!("{other} and {origin} are both set: which one?");
                }
                let text = if key == setting.key { text } else { secret_file(&text, &origin)? };
                here.insert(setting.key, (text, origin));
            }
            values.append(&mut here);
        }
        Ok(Self(values))
    }

    pub(super) fn origins(&self) -> BTreeMap<&'static str, Origin> {
        self.0.iter().map(|(key, (_, origin))| (*key, origin.clone())).collect()
    }

    /// A setting that may be absent.
    pub(super) fn get<T: FromStr<Err: fmt::Display>>(&self, key: &str) -> anyhow::Result<Option<T>> {
        let Some((text, origin)) = self.0.get(key) else { return Ok(None) };
        // The value is not shown: it may be a secret put in the wrong place.
        text.parse().map(Some).map_err(|error| anyhow::anyhow!("{origin}: {error}"))
    }

    /// A setting with a default, which is also shown as the example of how it is written.
    pub(super) fn or_default<T: FromStr<Err: fmt::Display>>(&self, key: &str, default: &str) -> anyhow::Result<T> {
        match self.get(key).with_context(|| format!("{key} is written like {default}"))? {
            Some(value) => Ok(value),
            None => default.parse().map_err(|error| anyhow::anyhow!("the default of {key}: {error}")),
        }
    }
}

/// The file's keys and their values as text.
fn read_file(path: &str, toml: &str) -> anyhow::Result<BTreeMap<String, String>> {
    let table: toml::Table = toml.parse().with_context(|| format!("{path} is not TOML"))?;
    let mut values = BTreeMap::new();
    for (key, value) in table {
        if !keys().any(|(_, known)| known == key) {
            bail!("{path}: unknown key `{key}`; `evm --help` lists them");
        }
        let text = match value {
            toml::Value::String(text) => text,
            toml::Value::Integer(number) => number.to_string(),
            toml::Value::Boolean(yes) => yes.to_string(),
            other => bail!("{path}: `{key}` must be a string, a whole number or a boolean, not {}", other.type_str()),
        };
        values.insert(key, text);
    }
    Ok(values)
}

/// A secret that stands in a file of its own; the last line break does not belong to it.
fn secret_file(path: &str, origin: &Origin) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(path).with_context(|| format!("{origin}: cannot read {path}"))?;
    let text = text.trim_end_matches(['\r', '\n']);
    if text.is_empty() {
        bail!("{origin}: {path} is empty");
    }
    Ok(text.to_owned())
}

/// Environment variables that look like settings and are none: most likely misspelt.
pub(crate) fn unknown_variables(names: impl Iterator<Item = String>) -> Vec<String> {
    let known = |name: &str| {
        name == "EVM_CONFIG" || name.starts_with("EVM_TEST_") || keys().any(|(_, key)| variable(&key) == name)
    };
    let mut unknown: Vec<String> = names.filter(|name| name.starts_with("EVM_") && !known(name)).collect();
    unknown.sort();
    unknown
}
