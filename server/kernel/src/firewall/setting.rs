//! Settings below `/proc/sys/net` that are borrowed: the value from before is remembered in a file, and comes back when nobody needs the new one.
//!
//! The file says in which boot and in which network namespace it was written; what another one remembers is not given back. It is written before
//! the setting is.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use ecow::EcoString;

/// What the kernel has been told to change, with the values from before.
#[derive(Debug)]
pub(super) struct Settings {
    file: Option<PathBuf>,
    place: String,
    before: BTreeMap<EcoString, EcoString>,
}

/// The setting that makes this host a router of IPv6, which then heeds no other router any more.
const FORWARDING_IPV6: &str = "ipv6/conf/all/forwarding";

/// The setting of a link by which a router still heeds others.
const ACCEPT_RA: &str = "accept_ra";

impl Settings {
    /// Reads what is remembered. Without a file it is remembered for as long as the server runs.
    pub(super) fn open(file: Option<&Path>, namespace: u64) -> Self {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let place = format!("boot {} namespace {namespace}", boot.trim());
        let text = file.and_then(|file| fs::read_to_string(file).ok()).unwrap_or_default();
        let mut lines = text.lines();
        let mut before = BTreeMap::new();
        if lines.next() == Some(place.as_str()) {
            let pairs = lines.filter_map(|line| line.split_once(' '));
            before.extend(pairs.map(|(path, value)| (path.into(), value.into())));
        }
        Self {
            file: file.map(Path::to_path_buf),
            place,
            before,
        }
    }

    /// What can be given back.
    pub(super) fn borrowed(&self) -> BTreeMap<EcoString, EcoString> {
        let own = self.before.iter().filter(|(path, _)| !path.ends_with(ACCEPT_RA));
        own.map(|(path, value)| (path.clone(), value.clone())).collect()
    }

    /// Writes a setting, and remembers its value from before if that is another. Gives what it says now.
    pub(super) fn borrow(&mut self, path: &EcoString, value: &str) -> io::Result<String> {
        let now = read(path)?;
        if now == value {
            return Ok(now);
        }
        let mut changes = vec![(path.clone(), EcoString::from(value), EcoString::from(now))];
        if path == FORWARDING_IPV6 {
            changes.splice(0..0, routers_heeded());
        }
        for (path, _, before) in &changes {
            self.before.entry(path.clone()).or_insert_with(|| before.clone());
        }
        self.save()?;
        for (path, value, _) in &changes {
            write(path, value)?;
        }
        read(path)
    }

    /// Gives a setting its value from before. Gives what it says now; none where there is no such setting any more.
    pub(super) fn give_back(&mut self, path: &EcoString) -> io::Result<Option<String>> {
        let mut paths = vec![path.clone()];
        if path == FORWARDING_IPV6 {
            paths.extend(self.before.keys().filter(|path| path.ends_with(ACCEPT_RA)).cloned());
        }
        for path in &paths {
            let Some(value) = self.before.get(path) else { continue };
            match write(path, value) {
                // The link whose setting it was is gone.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                result => result?,
            }
        }
        for path in &paths {
            self.before.remove(path);
        }
        self.save()?;
        match read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            result => result.map(Some),
        }
    }

    /// Writes the file anew, durably; one that has nothing to remember goes.
    fn save(&self) -> io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        if self.before.is_empty() {
            return match fs::remove_file(file) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            };
        }
        let mut text = format!("{}\n", self.place);
        for (path, value) in &self.before {
            text.extend([path.as_str(), " ", value.as_str(), "\n"]);
        }
        let mut next = file.as_os_str().to_owned();
        next.push(".new");
        let mut written = fs::File::create(&next)?;
        written.write_all(text.as_bytes())?;
        written.sync_all()?;
        fs::rename(&next, file)
    }
}

/// Links by which a router was found that announced itself: they must heed it still when this host is a router, too.
fn routers_heeded() -> Vec<(EcoString, EcoString, EcoString)> {
    /// `RTF_DEFAULT | RTF_ADDRCONF` of `linux/ipv6_route.h`.
    const ANNOUNCED: u32 = 0x0005_0000;
    let routes = fs::read_to_string("/proc/thread-self/net/ipv6_route").unwrap_or_default();
    let announced = |line: &str| {
        let mut words = line.split_ascii_whitespace().skip(8);
        let flags = u32::from_str_radix(words.next()?, 16).ok()?;
        let link = words.next()?;
        (flags & ANNOUNCED == ANNOUNCED).then(|| ecow::eco_format!("ipv6/conf/{link}/{ACCEPT_RA}"))
    };
    let paths: std::collections::BTreeSet<EcoString> = routes.lines().filter_map(announced).collect();
    let heeding = paths
        .into_iter()
        .filter(|path| read(path).is_ok_and(|value| value == "1"));
    heeding.map(|path| (path, "2".into(), "1".into())).collect()
}

/// The value of a setting in the namespace of the calling thread.
pub(super) fn read(path: &str) -> io::Result<String> {
    Ok(fs::read_to_string(place(path)?)?.trim().to_owned())
}

fn write(path: &str, value: &str) -> io::Result<()> {
    fs::write(place(path)?, value)
}

fn place(path: &str) -> io::Result<String> {
    let plain = |part: &str| !part.is_empty() && part != "." && part != "..";
    if path.split('/').all(plain) {
        Ok(format!("/proc/sys/net/{path}"))
    } else {
        Err(io::Error::from_raw_os_error(libc::EINVAL))
    }
}
