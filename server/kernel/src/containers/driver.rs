//! Makes, starts, stops and destroys containers by LXC's programs, or by Proxmox's `pct` where there is one.
//!
//! Takes wanted containers, gives the programs' own words where one fails. It asks nothing of the mirror: whoever calls knows what is due. What it
//! destroys carries our mark in its directory; it never follows a link out of one.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ecow::{EcoString, eco_format};
use nonnet_hooks::mirror::{Ownership, Stage};
use nonnet_hooks::object::container::{Container, Source};

use super::idmap::Idmap;
use super::marker::Marker;
use super::pct;
use super::rootfs::{quieten, resolv_conf};
use super::settings::{Cgroups, check_settings, configuration, controls, taken_at_start};
use crate::process::{Job, ProcessError};

/// How long a template may take: one that downloads a distribution.
const CREATE: Duration = Duration::from_mins(30);

/// How long a start may take by Proxmox, which waits for storages and runs hook scripts before.
const PCT_START: Duration = Duration::from_mins(5);

/// How long a start may take.
const START: Duration = Duration::from_mins(1);

/// Seconds for which a container is asked to stop before it is forced to.
const STOP_SECONDS: u64 = 10;

/// How long stopping may take.
const STOP: Duration = Duration::from_secs(40);

/// How long destroying may take.
const DESTROY: Duration = Duration::from_mins(5);

/// How long the program for the first start may take.
const FIRSTBOOT: Duration = Duration::from_mins(10);

/// How long any other program may take.
const SHORT: Duration = Duration::from_secs(30);

/// Where Proxmox keeps the archives of templates.
const TEMPLATE_CACHE: &str = "/var/lib/vz/template/cache";

/// LXC's storage that is a plain directory.
const DIRECTORY: &str = "dir";

/// LXC's own lines for containers of any distribution, and those for unprivileged ones.
const COMMON: &str = "/usr/share/lxc/config/common.conf";
const USERNS: &str = "/usr/share/lxc/config/userns.conf";

/// The mode of a container's directory, which is closed to others as LXC's own are: what is in there can be a program that runs as root.
const DIRECTORY_MODE: u32 = 0o750;

/// The mode where Proxmox mounts its files below it when it starts, for whose root it is on the way.
const PCT_DIRECTORY_MODE: u32 = 0o755;

/// The file in a container's directory that LXC writes about its last start.
const LOG: &str = "nonnet.log";

/// The file in a container's directory with what the program for the first start said.
const FIRSTBOOT_LOG: &str = "firstboot.log";

/// Lines of LXC's log in a row's error.
const LOG_LINES: usize = 3;

/// The containers below one path.
#[derive(Clone, Debug)]
pub(crate) struct Driver {
    path: PathBuf,
    group: u32,
    cgroups: Cgroups,
    has_pct: bool,
}

/// Why something did not work, in words.
pub(super) type Words = EcoString;

impl Driver {
    /// The containers below `path`; those of ours are marked with `group`.
    pub(crate) fn new(path: PathBuf, group: u32) -> Self {
        Self {
            path,
            group,
            cgroups: Cgroups::of_this_host(),
            has_pct: pct::is_here(),
        }
    }

    /// The lxcpath.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The directory of a container.
    pub(super) fn directory(&self, id: &str) -> PathBuf {
        self.path.join(id)
    }

    /// The ids of all containers, and of what is left of one.
    pub(super) fn ids(&self) -> Vec<EcoString> {
        let entries = fs::read_dir(&self.path).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let mut ids: Vec<EcoString> = names
            .filter(|name| {
                let directory = self.path.join(name);
                directory.join("config").exists() || directory.join("nonnet").exists()
            })
            .map(Into::into)
            .collect();
        if self.has_pct {
            ids.extend(pct::ids());
        }
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// Whether there is a container of that id, or what is left of one.
    pub(super) fn exists(&self, id: &str) -> bool {
        let directory = self.directory(id);
        directory.join("config").exists() || directory.join("nonnet").exists() || (self.has_pct && pct::exists(id))
    }

    /// Makes a container with that mark. What is left of a failed attempt is taken away.
    pub(super) fn create(&self, container: &Container, ownership: Ownership) -> Result<(), Words> {
        let directory = self.directory(&container.id);
        if directory.join("config").exists() {
            return Err(eco_format!("{} is there already", directory.display()));
        }
        if self.has_pct && pct::exists(&container.id) {
            return Err(eco_format!("Proxmox has a container {} already", container.id));
        }
        let mut marker = Marker::new(Ownership {
            stage: Stage::Creating,
            ..ownership
        });
        let open_to = if self.has_pct {
            PCT_DIRECTORY_MODE
        } else {
            DIRECTORY_MODE
        };
        let made_directory = fs::DirBuilder::new().recursive(true).mode(open_to).create(&directory);
        let begin = made_directory.and_then(|()| marker.write(&directory));
        begin.map_err(|error| words(&directory, &error))?;
        let made = self.make(container, &directory).and_then(|()| {
            marker.ownership = ownership;
            marker.settings = container.settings.clone();
            marker.write(&directory).map_err(|error| words(&directory, &error))
        });
        if made.is_err() {
            // Its own error is what counts; whatever stays is found by its mark, and taken away then.
            let _ = self.remove(&container.id, Stage::Creating);
        }
        made
    }

    fn make(&self, container: &Container, directory: &Path) -> Result<(), Words> {
        let source = container.source.as_ref().ok_or("it says not what it is made from")?;
        if self.has_pct {
            let jobs = pct::create(container, source, &self.tag(), CREATE)?;
            return jobs.iter().try_for_each(run);
        }
        check_settings(&container.settings, self.cgroups)?;
        let idmap = if is_unprivileged(container) == Some(true) {
            Some(Idmap::of_root()?)
        } else {
            None
        };
        let base = directory.join("nonnet.conf");
        fs::write(&base, self.base(container, idmap)).map_err(|error| words(&base, &error))?;
        let rootfs = directory.join("rootfs");
        let own = Own {
            directory,
            rootfs: &rootfs,
            base: &base,
        };
        match source {
            Source::Golden(golden) if golden.starts_with('/') => {
                check_own(container)?;
                let copy = Job::new("cp", CREATE).args(["-a", "--reflink=auto", "-T", golden.as_str()]);
                run(&copy.arg(&rootfs))?;
                own.write_configuration(idmap)?;
            }
            Source::Golden(golden) => {
                check_own(container)?;
                self.copy(golden, container, idmap, &own)?;
            }
            Source::Template(template) => {
                if let Some(archive) = archive(template)? {
                    check_own(container)?;
                    fs::create_dir(&rootfs).map_err(|error| words(&rootfs, &error))?;
                    let extract = Job::new("tar", CREATE).args(["-x", "--numeric-owner", "-f"]);
                    run(&extract.arg(archive).arg("-C").arg(&rootfs))?;
                    own.write_configuration(idmap)?;
                } else {
                    let job = Job::new("lxc-create", CREATE).arg("-P").arg(&self.path);
                    run(&by_template(job, container, template, &base)?)?;
                }
            }
        }
        quieten(&rootfs).map_err(|error| words(&rootfs, &error))?;
        let _ = fs::remove_file(base);
        self.write_settings(container)
    }

    /// Makes a container of another one's files, which are shared where the file system can, and of its configuration.
    fn copy(&self, golden: &str, container: &Container, idmap: Option<Idmap>, own: &Own<'_>) -> Result<(), Words> {
        let state = self.job("lxc-info", golden, SHORT).args(["-s", "-H"]).run();
        let state = state.map_err(|error| eco_format!("{error}"))?.output;
        if state.trim() != "STOPPED" {
            return Err(eco_format!(
                "golden_image {golden} is {}; only a stopped container is copied",
                state.trim()
            ));
        }
        let from = self.directory(golden);
        let config = from.join("config");
        let text = fs::read_to_string(&config).map_err(|error| words(&config, &error))?;
        let of_golden = Idmap::in_configuration(&text).map_err(|why| eco_format!("golden_image {golden}: {why}"))?;
        let idmap = match (is_unprivileged(container), of_golden) {
            (Some(false), Some(_)) => {
                return Err(eco_format!(
                    "golden_image {golden} is unprivileged, and so is every copy of it"
                ));
            }
            (Some(true), Some(of_golden)) if idmap != Some(of_golden) => {
                return Err(eco_format!(
                    "golden_image {golden} has other users (lxc.idmap) than root's of /etc/subuid"
                ));
            }
            (_, of_golden) => of_golden.or(idmap),
        };
        let copy = Job::new("cp", CREATE).args(["-a", "--reflink=auto", "-T"]);
        run(&copy.arg(from.join("rootfs")).arg(own.rootfs))?;
        let directory = own.directory;
        let (old, new) = (format!("{}/", from.display()), format!("{}/", directory.display()));
        // What every container has of its own comes from the base.
        let replaced = [
            "lxc.net.",
            "lxc.apparmor.profile",
            "lxc.cgroup.dir",
            "lxc.idmap",
            "lxc.uts.name",
        ];
        let kept = text
            .lines()
            .filter(|line| !replaced.iter().any(|key| line.starts_with(key)));
        let mut text: String = kept.map(|line| line.replace(&old, &new) + "\n").collect();
        text += &self.base(container, idmap);
        let _ = writeln!(text, "lxc.uts.name = {}", container.id);
        fs::write(directory.join("config"), text).map_err(|error| words(directory, &error))?;
        own.give(idmap, of_golden.is_some())
    }

    /// What a container has from the beginning: no network of LXC's, since that is nonnet's business.
    fn base(&self, container: &Container, idmap: Option<Idmap>) -> String {
        let apparmor = fs::read_to_string("/sys/module/apparmor/parameters/enabled").unwrap_or_default();
        let profile = if apparmor.starts_with('Y') {
            "generated"
        } else {
            "unconfined"
        };
        format!(
            "lxc.net.0.type = empty\nlxc.apparmor.profile = {profile}\nlxc.cgroup.dir = {}/{}\n{}",
            self.cgroup(),
            container.id,
            idmap.map(|idmap| idmap.to_string()).unwrap_or_default()
        )
    }

    fn cgroup(&self) -> String {
        format!("nonnet-{:08x}", self.group)
    }

    fn write_settings(&self, container: &Container) -> Result<(), Words> {
        let config = self.directory(&container.id).join("config");
        let text = fs::read_to_string(&config).map_err(|error| words(&config, &error))?;
        check_settings(&container.settings, self.cgroups)?;
        let text = configuration(&text, &container.settings, self.cgroups);
        let new = config.with_extension("nonnet");
        let written = fs::write(&new, text).and_then(|()| fs::rename(&new, &config));
        written.map_err(|error| words(&config, &error))
    }

    /// Marks a container that somebody else made as the row's.
    pub(super) fn adopt(&self, id: &str, ownership: Ownership) -> Result<(), Words> {
        let directory = self.directory(id);
        let marker = Marker::new(ownership);
        let written = fs::create_dir_all(&directory).and_then(|()| marker.write(&directory));
        written.map_err(|error| words(&directory, &error))
    }

    /// Takes the mark off again.
    pub(super) fn release(&self, id: &str) -> Result<(), Words> {
        let directory = self.directory(id);
        Marker::remove(&directory).map_err(|error| words(&directory, &error))
    }

    /// Brings the configuration of a container to what is wanted, and its running cgroup, as far as that takes it.
    pub(super) fn configure(&self, container: &Container, init: Option<u32>) -> Result<(), Words> {
        let directory = self.directory(&container.id);
        let mut marker = self.marker(&container.id)?;
        if self.has_pct {
            pct::set(container, &marker.settings, SHORT)?
                .as_ref()
                .map_or(Ok(()), run)?;
        } else {
            self.write_settings(container)?;
        }
        let mut differing = taken_at_start(&marker.settings, &container.settings);
        let before = match (&marker.outdated, init) {
            (Some((of, before)), Some(init)) if *of == init => before.clone(),
            _ => BTreeSet::default(),
        };
        for (name, file, value) in controls(&container.settings, self.cgroups) {
            let changed = differing.contains(name) || before.contains(name);
            if !self.has_pct && init.is_some() && changed {
                let control = self
                    .job("lxc-cgroup", &container.id, SHORT)
                    .args([file, value.as_str()]);
                if control.run().is_ok() {
                    differing.remove(name);
                    if let Some((_, names)) = &mut marker.outdated {
                        names.remove(name);
                    }
                }
            }
        }
        let still = marker.outdated.take().filter(|(of, _)| Some(*of) == init);
        differing.extend(still.into_iter().flat_map(|(_, names)| names));
        if self.has_pct {
            differing = pct::waiting(&container.id, differing);
        }
        marker.outdated = init.filter(|_| !differing.is_empty()).map(|init| (init, differing));
        marker.settings = container.settings.clone();
        marker.write(&directory).map_err(|error| words(&directory, &error))
    }

    /// Starts a container.
    pub(super) fn start(&self, id: &str) -> Result<(), Words> {
        if self.has_pct {
            return run_unless(&pct::simple("start", id, PCT_START)?, "already running");
        }
        let directory = self.directory(id);
        if let Some(marker) = Marker::read(&directory) {
            let rootfs = directory.join("rootfs");
            resolv_conf(&rootfs, &marker.settings).map_err(|error| words(&rootfs, &error))?;
        }
        let log = directory.join(LOG);
        let _ = fs::remove_file(&log);
        let job = self
            .job("lxc-start", id, START)
            .arg("-o")
            .arg(&log)
            .args(["-l", "INFO"]);
        let started = job.run().map(drop);
        started.map_err(|error| {
            let text = fs::read_to_string(&log).unwrap_or_default();
            let errors: Vec<&str> = text
                .lines()
                .filter_map(|line| Some(line.split_once(" ERROR ")?.1.trim()))
                .collect();
            let shown = errors.iter().take(LOG_LINES).copied().collect::<Vec<_>>().join("; ");
            if shown.is_empty() {
                eco_format!("{error}")
            } else {
                eco_format!("{}: {shown}", first_part(&error))
            }
        })
    }

    /// Runs the program for the first start in a container, once: what it says is kept beside the container.
    pub(super) fn first_boot(&self, container: &Container) -> Result<(), Words> {
        let Some(script) = &container.firstboot else {
            return Ok(());
        };
        let directory = self.directory(&container.id);
        let mut marker = self.marker(&container.id)?;
        if marker.firstboot.is_some() {
            return Ok(());
        }
        // Before it runs: what half worked is not repeated.
        marker.firstboot = Some("started".into());
        marker.write(&directory).map_err(|error| words(&directory, &error))?;
        let ran = fs::read(script.as_str())
            .map_err(|error| words(Path::new(script.as_str()), &error))
            .and_then(|text| {
                let attach = self.job("lxc-attach", &container.id, FIRSTBOOT);
                let attach = attach.args(["--clear-env", "--", "/bin/sh", "-s"]).input(text);
                attach.run().map_err(|error| eco_format!("{error}"))
            });
        let (outcome, said) = match ran {
            Ok(printed) => ("done".into(), printed.output + &printed.errors),
            Err(error) => (eco_format!("failed: {error}"), error.to_string()),
        };
        let _ = fs::write(directory.join(FIRSTBOOT_LOG), said);
        marker.firstboot = Some(outcome);
        marker.write(&directory).map_err(|error| words(&directory, &error))
    }

    /// Stops a container: asks it to, and forces it after [`STOP_SECONDS`].
    pub(super) fn stop(&self, id: &str) -> Result<(), Words> {
        if self.has_pct {
            return run_unless(&pct::shutdown(id, STOP_SECONDS, STOP)?, "not running");
        }
        run(&self.job("lxc-stop", id, STOP).arg("-t").arg(STOP_SECONDS.to_string()))
    }

    fn kill(&self, id: &str) -> Result<(), Words> {
        if self.has_pct {
            return run_unless(&pct::simple("stop", id, STOP)?, "not running");
        }
        run(&self.job("lxc-stop", id, STOP).arg("-k"))
    }

    /// Destroys a container that carries our mark, and what it leaves behind.
    pub(super) fn destroy(&self, id: &str, is_running: bool) -> Result<(), Words> {
        let marker = self.marker(id)?;
        if marker.ownership.group != self.group || marker.ownership.stage == Stage::Adopted {
            return Err(eco_format!("container {id} is not nonnet's to destroy"));
        }
        if is_running {
            self.kill(id)?;
        }
        if self.has_pct && marker.settings.get("protection").is_some_and(|word| word == "true") {
            run(&pct::unprotect(id, SHORT)?)?;
        }
        self.remove(id, marker.ownership.stage)
    }

    fn remove(&self, id: &str, stage: Stage) -> Result<(), Words> {
        let directory = self.directory(id);
        if self.has_pct {
            self.remove_from_proxmox(id, stage)?;
        } else if directory.join("config").exists() {
            run(&self.job("lxc-destroy", id, DESTROY))?;
        }
        if Marker::read(&directory).is_some() {
            fs::remove_dir_all(&directory).map_err(|error| words(&directory, &error))?;
        }
        self.remove_cgroups(id);
        Ok(())
    }

    /// Destroys what Proxmox has of a container. Of one that was not made to its end, only what is known to be ours: somebody else may have been faster.
    fn remove_from_proxmox(&self, id: &str, stage: Stage) -> Result<(), Words> {
        let Some(configuration) = pct::Configuration::read(id) else {
            return Ok(());
        };
        if stage == Stage::Creating && !configuration.has_tag(&self.tag()) {
            if !configuration.is_bare() {
                return Ok(());
            }
            if pct::is_being_made(id) {
                return Err(eco_format!("a pct is still at work on making container {id}"));
            }
            // Who made it ended before its end, and Proxmox's lock outlives that.
            run(&pct::simple("unlock", id, SHORT)?)?;
        } else if stage == Stage::Creating && configuration.lock() == Some("create") && !pct::is_being_made(id) {
            run(&pct::simple("unlock", id, SHORT)?)?;
        }
        run(&pct::destroy(id, DESTROY)?)
    }

    /// What Proxmox shows of a container that is nonnet's.
    fn tag(&self) -> String {
        self.cgroup()
    }

    /// Removes the empty cgroups that LXC leaves (`lxc.pivot`): of this container, and ours when nothing is in it.
    fn remove_cgroups(&self, id: &str) {
        let own = self.cgroup();
        for place in find(Path::new("/sys/fs/cgroup"), &own, 0) {
            remove_empty(&place.join(id));
            let _ = fs::remove_dir(place);
        }
    }

    /// How the first process of a container that is not running any more ended: in words, and whether by error.
    /// Proxmox does not tell, and then it counts as by error.
    pub(super) fn last_end(&self, id: &str) -> (EcoString, bool) {
        if self.has_pct {
            return ("it stopped".into(), true);
        }
        let text = fs::read_to_string(self.directory(id).join(LOG)).unwrap_or_default();
        end_in(&text)
    }

    pub(super) fn marker(&self, id: &str) -> Result<Marker, Words> {
        Marker::read(&self.directory(id)).ok_or_else(|| eco_format!("container {id} does not carry nonnet's mark"))
    }

    fn job(&self, program: &str, id: &str, deadline: Duration) -> Job {
        Job::new(program, deadline).arg("-P").arg(&self.path).args(["-n", id])
    }
}

/// The places of a container that no template of LXC's makes.
struct Own<'a> {
    directory: &'a Path,
    rootfs: &'a Path,
    base: &'a Path,
}

impl Own<'_> {
    fn write_configuration(&self, idmap: Option<Idmap>) -> Result<(), Words> {
        let included = [(COMMON, true), (USERNS, idmap.is_some())];
        let included = included
            .iter()
            .filter(|(file, is_due)| *is_due && Path::new(file).exists());
        let mut text = String::new();
        for (file, _) in included {
            let _ = writeln!(text, "lxc.include = {file}");
        }
        text += &fs::read_to_string(self.base).map_err(|error| words(self.base, &error))?;
        let _ = writeln!(text, "lxc.rootfs.path = dir:{}", self.rootfs.display());
        fs::write(self.directory.join("config"), text).map_err(|error| words(self.directory, &error))?;
        self.give(idmap, false)
    }

    /// Gives an unprivileged container what is its root's; its files are that already if they were another one's.
    fn give(&self, idmap: Option<Idmap>, is_given: bool) -> Result<(), Words> {
        let Some(idmap) = idmap else { return Ok(()) };
        let given = if is_given { Ok(()) } else { idmap.give_all(self.rootfs) };
        let given = given.and_then(|()| idmap.give_directory(self.directory));
        given.map_err(|error| eco_format!("unprivileged: {error}"))
    }
}

/// What the row says about it, if anything.
fn is_unprivileged(container: &Container) -> Option<bool> {
    container.creation.get("unprivileged").map(|word| word == "true")
}

/// Refuses what only a template of LXC's, or Proxmox, can do.
fn check_own(container: &Container) -> Result<(), Words> {
    match container.creation.get("storage") {
        Some(storage) if storage != DIRECTORY => Err(eco_format!(
            "storage {storage}: without Proxmox's pct, what is copied or unpacked is a directory (storage dir)"
        )),
        _ => check_size(container),
    }
}

/// Refuses a size of what has none.
fn check_size(container: &Container) -> Result<(), Words> {
    let is_directory = container
        .creation
        .get("storage")
        .is_none_or(|storage| storage == DIRECTORY);
    match container.creation.get("rootfs_size") {
        Some(size) if is_directory => Err(eco_format!(
            "rootfs_size {size}: a directory has no size; a storage of LXC's that has one is lvm, loop, zfs or rbd"
        )),
        _ => Ok(()),
    }
}

fn by_template(job: Job, container: &Container, template: &str, base: &Path) -> Result<Job, Words> {
    check_size(container)?;
    let (name, rest) = template.split_once(':').unwrap_or((template, ""));
    let mut job = job.args(["-n", container.id.as_str(), "-t", name]).arg("-f").arg(base);
    if let Some(storage) = container.creation.get("storage") {
        job = job.args(["-B", storage.as_str()]);
    }
    if let Some(size) = container.creation.get("rootfs_size") {
        job = job.arg("--fssize").arg(format!("{size}G"));
    }
    let parts = rest.split('/').filter(|part| !part.is_empty());
    let options: Vec<&str> = ["-d", "-r", "-a"]
        .into_iter()
        .zip(parts)
        .flat_map(<[&str; 2]>::from)
        .collect();
    if options.is_empty() {
        return Ok(job);
    }
    Ok(job.arg("--").args(options))
}

fn run(job: &Job) -> Result<(), Words> {
    job.run().map(drop).map_err(|error| eco_format!("{error}"))
}

/// As [`run`]; what is so already, and says it with these words, is no failure.
fn run_unless(job: &Job, is_so: &str) -> Result<(), Words> {
    match job.run() {
        Err(error) if error.to_string().contains(is_so) => Ok(()),
        ran => ran.map(drop).map_err(|error| eco_format!("{error}")),
    }
}

fn words(path: &Path, error: &io::Error) -> Words {
    eco_format!("{}: {error}", path.display())
}

/// How a program ended, without what it said.
fn first_part(error: &ProcessError) -> String {
    match error {
        ProcessError::Failed { program, how, .. } => format!("{program} {how}"),
        other => other.to_string(),
    }
}

/// The archive that a template is, if it is one: a path, or what Proxmox has in its cache.
fn archive(template: &str) -> Result<Option<PathBuf>, Words> {
    if template.starts_with('/') {
        return Ok(Some(template.into()));
    }
    let Some((storage, file)) = template.split_once(":vztmpl/") else {
        return Ok(None);
    };
    let cached = Path::new(TEMPLATE_CACHE).join(file);
    if cached.is_file() {
        return Ok(Some(cached));
    }
    Err(eco_format!(
        "template {template} is of Proxmox's storage {storage}: there is no pct here, and no {}",
        cached.display()
    ))
}

/// What LXC wrote about the end of a first process (`lxc_error_set_and_log`). Signal 1 and 2 stand for a reboot and a shutdown (`reboot(2)`).
fn end_in(log: &str) -> (EcoString, bool) {
    let number = |after: &str| {
        let line = log.lines().rev().find(|line| line.contains(after))?;
        let (_, rest) = line.rsplit_once('(')?;
        rest.trim_end().trim_end_matches(')').parse::<i32>().ok()
    };
    if let Some(signal) = number("ended on signal") {
        if matches!(signal, 1 | 2) {
            return ("it was shut down".into(), false);
        }
        let name = nix::sys::signal::Signal::try_from(signal).map_or_else(|_| signal.to_string(), |s| s.to_string());
        return (eco_format!("its first process was ended by {name}"), true);
    }
    match number("ended on error") {
        Some(code) => (eco_format!("its first process ended with status {code}"), true),
        None => ("it stopped".into(), false),
    }
}

/// The directories of that name, at most three levels down.
fn find(place: &Path, name: &str, depth: u8) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(place).into_iter().flatten().flatten() {
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        if entry.file_name() == name {
            found.push(entry.path());
        } else if depth < 3 {
            found.extend(find(&entry.path(), name, depth + 1));
        }
    }
    found
}

/// Removes a cgroup and those below; one that is in use stays.
fn remove_empty(place: &Path) {
    for entry in fs::read_dir(place).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_empty(&entry.path());
        }
    }
    let _ = fs::remove_dir(place);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_tells_how_a_container_ended() {
        let killed =
            "lxc-start 1 INFO error - ../src/lxc/error.c:lxc_error_set_and_log:34 - Child <33> ended on signal (9)\n";
        assert_eq!(end_in(killed), ("its first process was ended by SIGKILL".into(), true));
        assert_eq!(
            end_in(&killed.replace("(9)", "(2)")),
            ("it was shut down".into(), false)
        );
        let error = killed.replace("signal (9)", "error (3)");
        assert_eq!(end_in(&error), ("its first process ended with status 3".into(), true));
        assert_eq!(end_in(""), ("it stopped".into(), false));
    }

    #[test]
    fn templates_of_proxmox_are_archives() {
        assert_eq!(archive("busybox"), Ok(None));
        assert_eq!(archive("download:debian/bookworm"), Ok(None));
        assert_eq!(archive("/a/b.tar"), Ok(Some("/a/b.tar".into())));
        assert!(archive("local:vztmpl/none.tar.zst").is_err());
    }
}
