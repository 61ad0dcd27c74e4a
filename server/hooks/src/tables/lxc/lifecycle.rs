//! What a container's row says about the container itself: how it is made, what it may use, whether it runs.
//!
//! Takes a row, gives the wanted [`Container`] or what is wrong with a property. Numbers come as texts, as all properties do.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::IpAddr;

use ecow::{EcoString, eco_format};
use nonnet_engine::Row;

use super::{Columns, id};
use crate::fault::Fault;
use crate::object::container::{Container, Restart, Source};

/// Properties that have an effect on the container itself.
pub(crate) const PROPERTIES: [&str; 19] = [
    "cores",
    "features",
    "firewall",
    "firstboot_script",
    "golden_image",
    "hostname",
    "managed",
    "memory",
    "nameserver",
    "netmaker_token_env",
    "onboot",
    "protection",
    "restart",
    "rootfs_size",
    "searchdomain",
    "storage",
    "swap",
    "template",
    "unprivileged",
];

/// Properties that say how a container is made: with another value it would be another container.
pub(crate) const IMMUTABLE: [&str; 5] = ["golden_image", "rootfs_size", "storage", "template", "unprivileged"];

/// Names of properties under which somebody might put a secret.
const SECRET: [&str; 4] = ["netmaker_token", "password", "secret", "token"];

/// What the kernel lets a container do that it asks for, as Proxmox names it.
const FEATURES: [&str; 6] = ["force_rw_sys", "fuse", "keyctl", "mknod", "mount", "nesting"];

/// Bytes of a host name at most (`HOST_NAME_MAX`).
const HOSTNAME_BYTES_MAX: usize = 64;

/// Bytes of a path or template at most.
const PATH_BYTES_MAX: usize = 255;

/// MiB of memory with which a container can start at all, and as many as fit into its files' numbers of bytes.
const MEMORY_MIB: (u32, u32) = (4, 1 << 30);

/// The container that a row wants made and kept, if it wants one: with `template`, `golden_image`, or `managed` for one that is there.
///
/// # Errors
/// The first property that is wrong.
pub(crate) fn container(columns: &Columns, row: &Row) -> Result<Option<Container>, Fault> {
    let read = Properties { columns, row };
    read.check_no_secrets()?;
    let unmanaged = !read.flag("managed")?.unwrap_or(false);
    let template = read.checked("template", template)?;
    let golden = read.checked("golden_image", golden)?;
    if template.is_some() && golden.is_some() {
        return Err(read.fault("golden_image", "a container is made from a template or from a golden image"));
    }
    let mut creation = BTreeMap::new();
    read.keep(&mut creation, "storage", storage)?;
    read.keep(&mut creation, "rootfs_size", |text| number(text, (1, 1 << 20), "GiB"))?;
    read.keep(&mut creation, "unprivileged", flag)?;
    let mut settings = BTreeMap::new();
    read.keep(&mut settings, "hostname", hostname)?;
    read.keep(&mut settings, "memory", |text| number(text, MEMORY_MIB, "MiB"))?;
    read.keep(&mut settings, "swap", |text| number(text, (0, MEMORY_MIB.1), "MiB"))?;
    read.keep(&mut settings, "cores", |text| number(text, (1, 8192), "processors"))?;
    read.keep(&mut settings, "features", features)?;
    read.keep(&mut settings, "onboot", flag)?;
    // Nothing to configure where it is off, as everywhere.
    if read.flag("protection")? == Some(true) {
        settings.insert("protection".into(), "true".into());
    }
    read.keep(&mut settings, "nameserver", nameservers)?;
    read.keep(&mut settings, "searchdomain", domain)?;
    let firstboot = read.checked("firstboot_script", path)?;
    let restart = read.get("restart").map(|word| {
        let policy = Restart::from_word(word);
        policy.ok_or_else(|| read.fault("restart", format!("\"{word}\" is none of always, on-failure, no")))
    });
    let restart = restart.transpose()?.unwrap_or_default();
    let source = template.map(Source::Template).or(golden.map(Source::Golden));
    if source.is_none() && unmanaged {
        return Ok(None);
    }
    if read.flag("firewall")? == Some(true) {
        let why = "Proxmox's firewall is for links that Proxmox makes, and this container's is nonnet's; \
                   networks.isolation and ports.anti_spoof say what may pass";
        return Err(read.fault("firewall", why));
    }
    Ok(Some(Container {
        id: id(columns, row).into(),
        source,
        creation,
        settings,
        firstboot,
        running: row.get(columns.running).as_bool().unwrap_or(false),
        restart,
    }))
}

/// The variable with the token of a row of network type `netmaker`.
///
/// # Errors
/// When it is no variable's name. What it is instead is not said: it may be the token itself.
pub(crate) fn token_variable(columns: &Columns, row: &Row) -> Result<EcoString, Fault> {
    let read = Properties { columns, row };
    let name = read.get("netmaker_token_env").unwrap_or("NETMAKER_TOKEN");
    let first = name.starts_with(|c: char| c.is_ascii_uppercase() || c == '_');
    let rest = name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
    if first && rest && name.len() <= PATH_BYTES_MAX {
        return Ok(name.into());
    }
    let why = "this is the name of a variable in the token file, of capitals, digits and '_' (as NETMAKER_TOKEN_PROD); \
               a token itself does not belong into a row";
    Err(read.fault("netmaker_token_env", why))
}

/// Refuses to delete or remake what a row protects, and to change what cannot be changed.
///
/// # Errors
/// The property that stands against it.
pub(crate) fn check_change(columns: &Columns, old: &Row, new: Option<&Row>) -> Result<(), Fault> {
    let was = Properties { columns, row: old };
    let Some(new) = new else {
        if was.flag("protection").is_ok_and(|on| on == Some(true)) {
            let why = "the container is protected from deletion; set this to \"false\" first";
            return Err(was.fault("protection", why));
        }
        return Ok(());
    };
    if was.get("template").or(was.get("golden_image")).is_none() {
        return Ok(());
    }
    let is = Properties { columns, row: new };
    let changed = IMMUTABLE.into_iter().find(|property| was.get(property) != is.get(property));
    match changed {
        Some(property) => {
            let why = "this cannot be changed once a container has been made; delete the row and insert another";
            Err(is.fault(property, why))
        }
        None => Ok(()),
    }
}

/// The properties of a row.
struct Properties<'a> {
    columns: &'a Columns,
    row: &'a Row,
}

impl<'a> Properties<'a> {
    fn get(&self, property: &str) -> Option<&'a str> {
        self.row.get(self.columns.properties).get_str(property)
    }

    fn fault(&self, property: &str, why: impl Display) -> Fault {
        let column = format!("properties:{property}");
        Fault::new(Columns::NAME, id(self.columns, self.row), &column, why)
    }

    fn checked(
        &self,
        property: &str,
        check: impl FnOnce(&str) -> Result<EcoString, String>,
    ) -> Result<Option<EcoString>, Fault> {
        let value = self.get(property).map(check).transpose();
        value.map_err(|why| self.fault(property, why))
    }

    fn keep(
        &self,
        kept: &mut BTreeMap<EcoString, EcoString>,
        property: &'static str,
        check: impl FnOnce(&str) -> Result<EcoString, String>,
    ) -> Result<(), Fault> {
        if let Some(value) = self.checked(property, check)? {
            kept.insert(property.into(), value);
        }
        Ok(())
    }

    fn flag(&self, property: &str) -> Result<Option<bool>, Fault> {
        Ok(self.checked(property, flag)?.map(|word| word == "true"))
    }

    fn check_no_secrets(&self) -> Result<(), Fault> {
        match SECRET.into_iter().find(|property| self.get(property).is_some()) {
            Some(property) => {
                let why = "a row holds no secrets; the token stands in the token file, netmaker_token_env names it";
                Err(self.fault(property, why))
            }
            None => Ok(()),
        }
    }
}

fn flag(text: &str) -> Result<EcoString, String> {
    match text {
        "true" | "1" => Ok("true".into()),
        "false" | "0" => Ok("false".into()),
        other => Err(format!("\"{other}\" is neither true nor false")),
    }
}

fn number(text: &str, (low, high): (u32, u32), unit: &str) -> Result<EcoString, String> {
    let number = text.parse::<u32>().ok().filter(|number| (low..=high).contains(number));
    let number = number.ok_or_else(|| format!("\"{text}\" is not a number of {unit} from {low} to {high}"))?;
    Ok(eco_format!("{number}"))
}

/// Refuses what would be another argument, another line, or nothing.
fn plain(text: &str, what: &str) -> Result<(), String> {
    let refused = |c: char| c.is_control() || c.is_whitespace() || matches!(c, '"' | '\'' | '\\');
    if text.is_empty() || text.len() > PATH_BYTES_MAX || text.starts_with('-') || text.contains(refused) {
        return Err(format!("\"{}\" is not {what}", text.escape_debug()));
    }
    Ok(())
}

fn path(text: &str) -> Result<EcoString, String> {
    plain(text, "a path")?;
    let mut parts = text.split('/');
    if parts.next() != Some("") || parts.any(|part| matches!(part, "" | "." | "..")) {
        return Err(format!("\"{text}\" is not a path from '/' in plain form (no '//', '.', '..')"));
    }
    Ok(text.into())
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '+'))
}

fn template(text: &str) -> Result<EcoString, String> {
    let what = "a template: busybox, download:DISTRIBUTION/RELEASE/ARCHITECTURE, the path of an archive, or STORAGE:vztmpl/FILE";
    plain(text, what)?;
    if text.starts_with('/') {
        return path(text);
    }
    let (first, rest) = text.split_once(':').unwrap_or((text, "-"));
    let mut rest = rest.split('/');
    if is_word(first) && rest.all(|part| is_word(part) && part != "..") {
        return Ok(text.into());
    }
    Err(format!("\"{text}\" is not {what}"))
}

fn golden(text: &str) -> Result<EcoString, String> {
    plain(text, "the name of a container or the path of a directory")?;
    if text.starts_with('/') {
        return path(text);
    }
    if is_word(text) && !matches!(text, "." | "..") {
        return Ok(text.into());
    }
    Err(format!("\"{text}\" is neither the name of a container nor the path of a directory"))
}

fn storage(text: &str) -> Result<EcoString, String> {
    if is_word(text) && text.len() <= PATH_BYTES_MAX && !text.starts_with('-') {
        return Ok(text.into());
    }
    Err(format!("\"{}\" is not the name of a storage", text.escape_debug()))
}

fn domain(text: &str) -> Result<EcoString, String> {
    let label = |label: &str| {
        let edge = |c: char| c.is_ascii_alphanumeric() || c == '_';
        label.len() <= 63
            && label.starts_with(edge)
            && label.ends_with(edge)
            && label.chars().all(|c| edge(c) || c == '-')
    };
    if text.len() <= 253 && text.strip_suffix('.').unwrap_or(text).split('.').all(label) {
        return Ok(text.into());
    }
    Err(format!("\"{}\" is not a name of DNS", text.escape_debug()))
}

fn hostname(text: &str) -> Result<EcoString, String> {
    if text.len() > HOSTNAME_BYTES_MAX {
        return Err(format!("a host name has at most {HOSTNAME_BYTES_MAX} bytes"));
    }
    domain(text)
}

fn nameservers(text: &str) -> Result<EcoString, String> {
    let servers: Vec<&str> = text.split([' ', ',']).filter(|part| !part.is_empty()).collect();
    if let Some(wrong) = servers.iter().find(|server| server.parse::<IpAddr>().is_err()) {
        return Err(format!("\"{}\" is not an address", wrong.escape_debug()));
    }
    if servers.is_empty() {
        return Err("there is no address".to_owned());
    }
    Ok(servers.join(" ").into())
}

/// `nesting=1,keyctl=1`
fn features(text: &str) -> Result<EcoString, String> {
    let mut on: Vec<&str> = Vec::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (name, value) = part.split_once('=').unwrap_or((part, "1"));
        if !FEATURES.contains(&name) {
            return Err(format!("\"{}\" is none of {}", name.escape_debug(), FEATURES.join(", ")));
        }
        let listed = name == "mount" && value.split(';').all(is_word);
        match flag(value) {
            Ok(word) if word == "false" => {}
            Ok(_) => on.push(part),
            Err(_) if listed => on.push(part),
            Err(why) => return Err(why),
        }
    }
    on.sort_unstable();
    on.dedup();
    Ok(on.join(",").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_names_archives_and_proxmox_volumes() {
        for good in [
            "busybox",
            "download:debian/bookworm/amd64",
            "/var/cache/rootfs.tar.zst",
            "local-btrfs:vztmpl/debian-13-standard_13.1-2_amd64.tar.zst",
        ] {
            assert_eq!(template(good).as_deref(), Ok(good));
        }
        for bad in ["", "-t", "a b", "../x", "/a/../b", "x:", "x:../../etc/passwd", "a\nb", "busybox\0", "x:/etc"] {
            assert!(template(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn features_are_put_in_order() {
        assert_eq!(features("nesting=1, keyctl=1,fuse=0").as_deref(), Ok("keyctl=1,nesting=1"));
        assert!(features("root=1").is_err() && features("nesting=maybe").is_err());
    }

    #[test]
    fn numbers_have_bounds() {
        assert_eq!(number("0512", MEMORY_MIB, "MiB").as_deref(), Ok("512"));
        for bad in ["", "-1", "3", "1e3", "99999999999", "512M"] {
            assert!(number(bad, MEMORY_MIB, "MiB").is_err(), "{bad}");
        }
    }

    #[test]
    fn names_keep_to_their_form() {
        assert!(hostname("web-1.example.org").is_ok() && hostname("-a").is_err() && hostname("a b").is_err());
        assert_eq!(nameservers("10.0.0.1,fd00::1").as_deref(), Ok("10.0.0.1 fd00::1"));
        assert!(nameservers("dns.example").is_err() && nameservers(" ").is_err());
        assert!(path("/a/b").is_ok() && path("a/b").is_err() && path("/a//b").is_err());
    }
}
