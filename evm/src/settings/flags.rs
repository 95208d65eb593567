//! The settings as flags of the command line, made from the list.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Arg, ArgMatches, Args, Command, FromArgMatches, value_parser};

use super::{SETTINGS, Setting};

const HEADING: &str = "Settings (flag > environment > file > default)";

/// The flags that were given.
#[derive(Debug)]
pub(crate) struct Flags {
    /// The file with settings.
    pub(crate) config: Option<PathBuf>,
    /// By key; a secret's file has the key `…_file`.
    pub(crate) values: BTreeMap<String, String>,
}

/// Every key that flags, environment and file may give: a secret may also come from a file.
pub(super) fn keys() -> impl Iterator<Item = (&'static Setting, String)> {
    SETTINGS.iter().flat_map(|setting| {
        let file = setting.secret.then(|| (setting, format!("{}_file", setting.key)));
        std::iter::once((setting, setting.key.to_owned())).chain(file)
    })
}

/// `http_addr` → `EVM_HTTP_ADDR`.
pub(super) fn variable(key: &str) -> String {
    format!("EVM_{}", key.to_ascii_uppercase())
}

fn argument(setting: &Setting, key: &str) -> Arg {
    let variable = variable(setting.key);
    let default = setting.default.map(|default| format!(" [default: {default}]")).unwrap_or_default();
    let or_file = if setting.secret { ", or …_FILE" } else { "" };
    Arg::new(key.to_owned())
        .long(key.replace('_', "-"))
        .value_name(if setting.secret { "SECRET" } else { "VALUE" })
        .help(format!("{}{default} [env: {variable}{or_file}]", setting.help.trim()))
        .help_heading(HEADING)
        .global(true)
        // Says nothing that the secret's own line does not.
        .hide(key != setting.key)
}

impl Args for Flags {
    fn augment_args(command: Command) -> Command {
        let config = Arg::new("config")
            .long("config")
            .value_name("FILE")
            .help("File with settings, `http_addr = \"…\"` [default: evm.toml, if it is there] [env: EVM_CONFIG]")
            .help_heading(HEADING)
            .global(true)
            .value_parser(value_parser!(PathBuf));
        keys().fold(command.arg(config), |command, (setting, key)| command.arg(argument(setting, &key)))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Flags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let value = |key: String| Some((matches.get_one::<String>(&key)?.clone(), key));
        Ok(Self {
            config: matches.get_one("config").cloned(),
            values: keys().filter_map(|(_, key)| value(key)).map(|(value, key)| (key, value)).collect(),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
