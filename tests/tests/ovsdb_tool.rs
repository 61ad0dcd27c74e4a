//! Our command line called as `ovsdb-tool`: the same words give the same output and exit status as Debian's, on files of ovsdb-server and
//! on ours.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Output};

use nonnet_tests::names::Names;
use nonnet_tests::program;
use tempfile::TempDir;

const SCHEMA: &str = r#"{"name":"ordinals","version":"5.1.3","cksum":"12345678 9","tables":{
    "ordinals":{"columns":{"number":{"type":"integer"},"name":{"type":"string"},
        "tags":{"type":{"key":"string","min":0,"max":"unlimited"}},
        "pair":{"type":{"key":"string","value":"integer","min":0,"max":2}},
        "two":{"type":{"key":"integer","min":0,"max":2}},
        "seen":{"type":"integer","ephemeral":true}},"indexes":[["number"]]}}}"#;

/// Another version: a column less, one more, and a set that holds at most one.
const NEXT: &str = r#"{"name":"ordinals","version":"5.2.0","cksum":"87654321 0","tables":{
    "ordinals":{"columns":{"number":{"type":"integer"},"name":{"type":"string"},"extra":{"type":"real"},
        "tags":{"type":{"key":"string","min":0,"max":1}}},"indexes":[["number"]]}}}"#;

const INSERT: &str = r#"["ordinals",{"op":"insert","table":"ordinals","uuid":"36bef046-7da7-43a5-905a-c17899216fcb",
    "row":{"number":1,"name":"one","tags":["set",["a","b"]],"seen":3,"pair":["map",[["k",1]]],"two":["set",[1,2]]}},
    {"op":"comment","comment":"hi \"there\""}]"#;
const MUTATE: &str = r#"["ordinals",{"op":"mutate","table":"ordinals","where":[["number","==",1]],
    "mutations":[["tags","insert",["set",["c"]]],["pair","insert",["map",[["l",2]]]]]},
    {"op":"comment","comment":"x"},{"op":"comment","comment":"y"}]"#;
const RENAME: &str =
    r#"["ordinals",{"op":"update","table":"ordinals","where":[["number","==",1]],"row":{"name":"first"}}]"#;
const SECOND: &str = r#"["ordinals",{"op":"insert","table":"ordinals","uuid":"2cebb4e5-5b1c-4e0b-9e3e-1e1b3c0c1d11","row":{"number":2}}]"#;
const DELETE: &str = r#"["ordinals",{"op":"delete","table":"ordinals","where":[["number","==",2]]}]"#;
const ONE_TAG: &str = r#"["ordinals",{"op":"update","table":"ordinals","where":[],"row":{"tags":"z"}}]"#;
const WRONG: &str =
    r#"["ordinals",{"op":"comment","comment":"a"},{"op":"insert","table":"ordinals","row":{"number":"1"}}]"#;
const SELECT: &str = r#"["ordinals",{"op":"select","table":"ordinals","where":[]}]"#;
const WAIT_NOW: &str = r#"["ordinals",{"op":"comment","comment":"a"},{"op":"wait","timeout":0,"table":"ordinals","where":[],"columns":["name"],"until":"==","rows":[]}]"#;
const WAIT: &str = r#"["ordinals",{"op":"comment","comment":"a"},{"op":"wait","table":"ordinals","where":[],"columns":["name"],"until":"==","rows":[]},{"op":"abort"}]"#;

/// What is run one after the other, each in the directory left by those before.
const CASES: &[&[&str]] = &[
    &["create", "a.db", "s.ovsschema"],
    &["create", "b.db", "nosuch.ovsschema"],
    &["create", "b.db", "bad.ovsschema"],
    &["db-is-standalone", "a.db"],
    &["db-is-clustered", "a.db"],
    &["db-name", "a.db"],
    &["db-version", "a.db"],
    &["db-cksum", "a.db"],
    &["db-cid", "a.db"],
    &["db-sid", "a.db"],
    &["db-local-address", "a.db"],
    &["transact", "a.db", INSERT],
    &["transact", "a.db", MUTATE],
    &["transact", "a.db", RENAME],
    &["transact", "a.db", SECOND],
    &["transact", "a.db", DELETE],
    &["transact", "a.db", WRONG],
    &["transact", "a.db", SELECT],
    &["query", "a.db", SELECT],
    &["query", "a.db", WAIT_NOW],
    &["query", "a.db", WAIT],
    &["query", "a.db", r#"["ordinals",{"op":"bogus"},{"op":"abort"}]"#],
    &["query", "a.db", r#"["nosuch",{"op":"abort"}]"#],
    &["query", "a.db", "[]"],
    &["query", "a.db", "{}"],
    &["query", "a.db", r#"["ordinals",{"op":"assert","lock":"x"}]"#],
    &["show-log", "a.db"],
    &["-m", "show-log", "a.db"],
    &["-mm", "show-log", "a.db"],
    &["show-log", "--more", "--mor", "a.db"],
    &["needs-conversion", "a.db", "s.ovsschema"],
    &["needs-conversion", "a.db", "next.ovsschema"],
    &["compact", "a.db", "compacted.db"],
    &["query", "compacted.db", SELECT],
    &["compact", "a.db"],
    &["query", "a.db", SELECT],
    &["convert", "a.db", "next.ovsschema"],
    &["db-version", "a.db"],
    &["transact", "a.db", ONE_TAG],
    // ovsdb-tool 3.1 converts each transaction, also those whose rows are gone.
    &["compact", "a.db"],
    &["convert", "a.db", "next.ovsschema", "converted.db"],
    &["db-version", "a.db"],
    &["query", "converted.db", SELECT],
    &["convert", "a.db", "next.ovsschema"],
    &["db-cksum", "a.db"],
    &["needs-conversion", "a.db", "next.ovsschema"],
    &["query", "a.db", SELECT],
    &["schema-name", "s.ovsschema"],
    &["schema-version", "s.ovsschema"],
    &["schema-cksum", "s.ovsschema"],
    &["schema-version", "bare.ovsschema"],
    &["schema-cksum", "bare.ovsschema"],
    &["schema-name", "nosuch"],
    &["compare-versions", "1.2.3", "<", "1.2.4"],
    &["compare-versions", "1.2.3", "<=", "1.2.3"],
    &["compare-versions", "1.2.3", "==", "1.2.4"],
    &["compare-versions", "1.10.3", ">", "1.9.4"],
    &["compare-versions", "1.2.3", ">=", "2.0.0"],
    &["compare-versions", "1.2.3", "!=", "1.2.3"],
    &["compare-versions", "1.2", "<", "1.2.4"],
    &["compare-versions", "1.2.3", "=", "1.2.4"],
    &["db-name", "nosuch.db"],
    &["db-name", "s.ovsschema"],
    &["db-version", "empty.db"],
    &["query", "empty.db", SELECT],
    &["query", "short.db", SELECT],
    &["db-version", "cluster.db"],
    &["db-is-clustered", "cluster.db"],
    &["db-is-standalone", "cluster.db"],
    &["query", "cluster.db", SELECT],
    &["compact", "cluster.db"],
    &["needs-conversion", "cluster.db", "s.ovsschema"],
    &[],
    &["nosuch"],
    &["--foo"],
    &["-x"],
    &["--rbac-role"],
    &["--cid=x", "help"],
    &["--election-timer=1", "help"],
    &["--version=3"],
    &["db-name", "a.db", "b.db"],
    &["db-cid"],
    &["compare-versions", "1.2.3"],
    &["create-cluster"],
    &["list-commands"],
    &["-vconsole:off", "db-name", "nosuch"],
    &["-v", "create", "v.db", "s.ovsschema"],
];

fn prepare() -> TempDir {
    let directory = tempfile::Builder::new().prefix("nonnet-tool-").tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
    write("s.ovsschema", SCHEMA);
    write("next.ovsschema", NEXT);
    write("bare.ovsschema", r#"{"name":"bare","tables":{}}"#);
    write("bad.ovsschema", r#"{"name":"bad","tables":{},"foo":1}"#);
    write("empty.db", "");
    let theirs = program::system("ovsdb-tool").unwrap();
    let make = |words: &[&str]| assert!(run(&theirs, directory.path(), words).status.success());
    make(&["create", "short.db", "s.ovsschema"]);
    make(&["transact", "short.db", INSERT]);
    let short = fs::read(directory.path().join("short.db")).unwrap();
    fs::write(directory.path().join("short.db"), &short[..short.len() - 10]).unwrap();
    make(&["create-cluster", "cluster.db", "s.ovsschema", "tcp:127.0.0.1:1"]);
    directory
}

fn run(tool: &Path, directory: &Path, words: &[&str]) -> Output {
    let mut command = Command::new(tool);
    // What getopt(3) says begins with it.
    command.arg0("ovsdb-tool");
    command.args(words).current_dir(directory).env("TZ", "UTC");
    program::run_command(&mut command, b"").unwrap()
}

/// What a run says, with the same UUIDs, dates and versions whenever it was: hash tables have no order, so lines of a log are sorted.
fn said(output: &Output, words: &[&str]) -> (Option<i32>, String, String) {
    let mut stdout = mask(&String::from_utf8_lossy(&output.stdout));
    if words.contains(&"show-log") {
        let mut lines: Vec<&str> = stdout.lines().collect();
        lines.sort_unstable();
        stdout = lines.join("\n");
    }
    // The real programs also log.
    let stderr = String::from_utf8_lossy(&output.stderr);
    let stderr: String = stderr.lines().filter(|line| !line.contains("|WARN|")).collect();
    (output.status.code(), stdout, mask(&stderr))
}

fn mask(text: &str) -> String {
    let own = format!(" (nonnet {})", env!("CARGO_PKG_VERSION"));
    let text = text.replace(&own, "");
    let is_known = |word: &str| ["36bef046", "2cebb4e5"].iter().any(|known| word.starts_with(known));
    let mut masked = String::new();
    for piece in text.split_inclusive(['"', ' ', ',', '(', ')', '\n', ':']) {
        let word = piece.trim_end_matches(['"', ' ', ',', '(', ')', '\n', ':']);
        let end = &piece[word.len()..];
        let is_uuid = word.len() == 36 && word.matches('-').count() == 4;
        let is_date = word.len() == 10 && word.starts_with("20") && word.matches('-').count() == 2;
        let is_second = word.len() == 6 && word.as_bytes()[2] == b'.';
        let is_part_of_hour = word.len() == 2 && word.bytes().all(|byte| byte.is_ascii_digit());
        let word = match word {
            word if is_uuid && !is_known(word) => "UUID",
            _ if is_date || is_second || is_part_of_hour => "TIME",
            word => word,
        };
        masked.push_str(word);
        masked.push_str(end);
    }
    masked
}

#[test]
fn the_same_words_do_the_same_on_a_file_of_ovsdb_server() {
    let (names, here, there) = (Names::make().unwrap(), prepare(), prepare());
    let (ours, theirs) = (names.path("ovsdb-tool"), program::system("ovsdb-tool").unwrap());
    for words in CASES {
        let mine = said(&run(&ours, here.path(), words), words);
        let reference = said(&run(&theirs, there.path(), words), words);
        assert_eq!(mine, reference, "{words:?}");
    }
}

#[test]
fn the_same_words_do_the_same_on_a_file_of_ours() {
    let (names, here, there) = (Names::make().unwrap(), prepare(), prepare());
    let (ours, theirs) = (names.path("ovsdb-tool"), program::system("ovsdb-tool").unwrap());
    for words in CASES {
        // Our log has what brought its rows.
        if words.contains(&"show-log") {
            continue;
        }
        let mine = said(&run(&ours, here.path(), words), words);
        let reference = said(&run(&theirs, there.path(), words), words);
        assert_eq!(mine, reference, "{words:?}");
        if words.first() == Some(&"create") && words[1] == "a.db" {
            let (from, to) = (here.path().join("made.db"), here.path().join("a.db"));
            fs::rename(&to, &from).unwrap();
            program::succeed(
                &program::ours("nonnet").unwrap(),
                &[Path::new("import"), &from, &to],
                b"",
            )
            .unwrap();
        }
    }
    for name in ["a.db", "compacted.db", "converted.db"] {
        let nonnet = program::ours("nonnet").unwrap();
        let told = program::succeed(&nonnet, &[Path::new("verify"), &here.path().join(name)], b"").unwrap();
        assert!(told.contains("chain sound"), "{name}: {told}");
    }
}

#[test]
fn what_is_written_to_a_file_of_ours_is_a_record_by_who_wrote_it() {
    let (names, here) = (Names::make().unwrap(), prepare());
    let tool = names.path("ovsdb-tool");
    let path = |name: &str| here.path().join(name);
    assert!(
        run(&tool, here.path(), &["create", "made.db", "s.ovsschema"])
            .status
            .success()
    );
    let nonnet = program::ours("nonnet").unwrap();
    program::succeed(&nonnet, &[Path::new("import"), &path("made.db"), &path("a.db")], b"").unwrap();
    for words in [
        ["transact", "a.db", INSERT],
        ["transact", "a.db", ONE_TAG],
        ["convert", "a.db", "next.ovsschema"],
    ] {
        assert!(run(&tool, here.path(), &words).status.success(), "{words:?}");
    }
    let log = program::succeed(&nonnet, &[Path::new("log"), &path("a.db")], b"").unwrap();
    assert!(log.contains(" through ovsdb-tool["), "{log}");
    assert!(
        log.contains("\"hi \\\"there\\\"\"") || log.contains("\"hi \"there\"\""),
        "{log}"
    );
    let log = run(&tool, here.path(), &["-mm", "show-log", "a.db"]);
    let log = String::from_utf8(log.stdout).unwrap();
    for expected in [
        "record 0: \"ordinals\" schema, version=\"5.1.3\", cksum=\"12345678 9\"\n\nrecord 1: ",
        " \"hi \"there\"\"\n  table ordinals insert row \"one\" (36bef046):\n    name=one\n    number=1\n    pair={k=1}\n",
        "  table ordinals row \"one\" (36bef046) diff:\n    tags=[a, b, z]\n",
        "record 4: \"ordinals\" schema, version=\"5.2.0\", cksum=\"87654321 0\"\n",
    ] {
        assert!(log.contains(expected), "{expected}\nis not in\n{log}");
    }
}

#[test]
fn the_real_programs_read_what_is_written() {
    let (names, here) = (Names::make().unwrap(), prepare());
    let (ours, theirs) = (names.path("ovsdb-tool"), program::system("ovsdb-tool").unwrap());
    let all =
        r#"["ordinals",{"op":"select","table":"ordinals","where":[],"columns":["name","number","pair","tags","two"]}]"#;
    // Two of two elements for two others: a difference of four, which ovsdb-server 3.1 cannot read.
    let both = r#"["ordinals",{"op":"update","table":"ordinals","where":[],"row":{"two":["set",[3,4]],"pair":["map",[["m",1],["n",1]]]}}]"#;
    assert!(
        run(&ours, here.path(), &["create", "a.db", "s.ovsschema"])
            .status
            .success()
    );
    for transaction in [INSERT, MUTATE, both, RENAME] {
        assert!(
            run(&ours, here.path(), &["transact", "a.db", transaction])
                .status
                .success()
        );
        let (mine, reference) = (
            run(&ours, here.path(), &["query", "a.db", all]),
            run(&theirs, here.path(), &["query", "a.db", all]),
        );
        assert!(mine.status.success() && reference.status.success(), "{reference:?}");
        assert_eq!(mine.stdout, reference.stdout, "{transaction}");
    }
    for words in [&["compact", "a.db"][..], &["convert", "a.db", "s.ovsschema"]] {
        assert!(run(&ours, here.path(), words).status.success(), "{words:?}");
        let query = ["query", "a.db", all];
        assert_eq!(
            run(&ours, here.path(), &query).stdout,
            run(&theirs, here.path(), &query).stdout,
            "{words:?}"
        );
    }
}

/// A role that may change one column of the rows that bear the client's name, which a tool has none of.
const ROLES: &str = r#"{"name":"roles","tables":{
    "RBAC_Role":{"columns":{"name":{"type":"string"},"permissions":{"type":{"key":"string",
        "value":{"type":"uuid","refTable":"RBAC_Permission","refType":"weak"},"min":0,"max":"unlimited"}}},"isRoot":true},
    "RBAC_Permission":{"columns":{"table":{"type":"string"},"insert_delete":{"type":"boolean"},
        "authorization":{"type":{"key":"string","min":0,"max":"unlimited"}},
        "update":{"type":{"key":"string","min":0,"max":"unlimited"}}},"isRoot":true},
    "host":{"columns":{"name":{"type":"string"},"state":{"type":"string"},"owner":{"type":"string"}},"isRoot":true}}}"#;

#[test]
fn a_role_restricts_what_may_be_written() {
    let (names, here, there) = (Names::make().unwrap(), prepare(), prepare());
    let (ours, theirs) = (names.path("ovsdb-tool"), program::system("ovsdb-tool").unwrap());
    let fill = r#"["roles",{"op":"insert","table":"RBAC_Permission","uuid-name":"p",
            "row":{"table":"host","insert_delete":false,"authorization":"","update":"state"}},
        {"op":"insert","table":"RBAC_Role","row":{"name":"agent","permissions":["map",[["host",["named-uuid","p"]]]]}},
        {"op":"insert","table":"host","row":{"name":"a"}}]"#;
    let change = r#"["roles",{"op":"update","table":"host","where":[],"row":{"state":"up"}}]"#;
    let forbidden = r#"["roles",{"op":"update","table":"host","where":[],"row":{"owner":"me"}}]"#;
    let insert = r#"["roles",{"op":"insert","table":"host","row":{"name":"b"}}]"#;
    for directory in [&here, &there] {
        fs::write(directory.path().join("roles.ovsschema"), ROLES).unwrap();
    }
    for words in [
        &["create", "r.db", "roles.ovsschema"][..],
        &["transact", "r.db", fill],
        &["--rbac-role=agent", "transact", "r.db", change],
        &["--rbac-role=agent", "transact", "r.db", forbidden],
        &["--rbac-role", "agent", "query", "r.db", forbidden],
        &["--rbac-role=agent", "transact", "r.db", insert],
        &["--rbac-role=nosuch", "transact", "r.db", change],
        &["transact", "r.db", insert],
    ] {
        let mine = said(&run(&ours, here.path(), words), words);
        let reference = said(&run(&theirs, there.path(), words), words);
        assert_eq!(mine, reference, "{words:?}");
    }
}

#[test]
fn a_query_that_writes_changes_nothing() {
    let (names, here) = (Names::make().unwrap(), prepare());
    let tool = names.path("ovsdb-tool");
    run(&tool, here.path(), &["create", "a.db", "s.ovsschema"]);
    let before = fs::read(here.path().join("a.db")).unwrap();
    let output = run(&tool, here.path(), &["query", "a.db", SECOND]);
    // ovsdb-tool 3.1 answers with an I/O error, since it tries to write after all.
    assert_eq!(
        mask(&String::from_utf8(output.stdout).unwrap()),
        "[{\"uuid\":[\"uuid\",\"2cebb4e5-5b1c-4e0b-9e3e-1e1b3c0c1d11\"]}]\n"
    );
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(fs::read(here.path().join("a.db")).unwrap(), before);
}

#[test]
fn a_file_that_another_program_writes_is_left_alone() {
    let (names, here) = (Names::make().unwrap(), prepare());
    let (ours, theirs) = (names.path("ovsdb-tool"), program::system("ovsdb-tool").unwrap());
    run(&ours, here.path(), &["create", "a.db", "s.ovsschema"]);
    // The real server has the file open: neither tool may write to it, both may read it.
    let mut server = program::tied(&program::system("ovsdb-server").unwrap()).unwrap();
    let socket = here.path().join("sock");
    server.arg(format!("--remote=punix:{}", socket.display()));
    server
        .args(["--unixctl=none", "-vconsole:off", "a.db"])
        .current_dir(here.path());
    let mut server = server.spawn().unwrap();
    while !socket.exists() {
        assert!(server.try_wait().unwrap().is_none());
        std::thread::sleep(program::POLL_INTERVAL);
    }
    for words in [
        &["transact", "a.db", INSERT][..],
        &["compact", "a.db"],
        &["convert", "a.db", "next.ovsschema"],
        &["query", "a.db", SELECT],
        &["show-log", "a.db"],
    ] {
        let mine = said(&run(&ours, here.path(), words), words);
        let reference = said(&run(&theirs, here.path(), words), words);
        assert_eq!(mine, reference, "{words:?}");
    }
    server.kill().unwrap();
    server.wait().unwrap();
}

#[test]
fn clusters_are_refused_in_clear_words() {
    let (names, here) = (Names::make().unwrap(), prepare());
    for words in [
        &["create-cluster", "c.db", "s.ovsschema", "tcp:127.0.0.1:6644"][..],
        &[
            "join-cluster",
            "c.db",
            "ordinals",
            "tcp:127.0.0.1:6644",
            "tcp:127.0.0.1:6645",
        ],
        &["check-cluster", "cluster.db"],
        &["cluster-to-standalone", "c.db", "cluster.db"],
        &["db-cid", "cluster.db"],
    ] {
        let output = run(&names.path("ovsdb-tool"), here.path(), words);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{words:?}");
        assert!(stderr.starts_with("ovsdb-tool: "), "{stderr}");
        assert!(
            stderr.contains("clustered (Raft) databases are not supported by nonnet"),
            "{stderr}"
        );
        assert!(!here.path().join("c.db").exists(), "{words:?}");
    }
}

#[test]
fn the_database_and_the_schema_have_the_places_of_ovsdb_tool_by_default() {
    let (names, here) = (Names::make().unwrap(), prepare());
    fs::rename(here.path().join("s.ovsschema"), here.path().join("vswitch.ovsschema")).unwrap();
    let with_defaults = |tool: &Path, words: &[&str]| {
        let mut command = Command::new(tool);
        command
            .args(words)
            .env("OVS_DBDIR", here.path())
            .env("OVS_PKGDATADIR", here.path());
        said(&program::run_command(&mut command, b"").unwrap(), words)
    };
    let (ours, theirs) = (names.path("ovsdb-tool"), program::system("ovsdb-tool").unwrap());
    assert_eq!(with_defaults(&ours, &["create"]).0, Some(0));
    assert!(here.path().join("conf.db").exists());
    for words in [
        &["db-name"][..],
        &["schema-version"],
        &["needs-conversion"],
        &["show-log"],
        &["query", SELECT],
        &["create"],
    ] {
        assert_eq!(with_defaults(&ours, words), with_defaults(&theirs, words), "{words:?}");
    }
    let (_, help, _) = with_defaults(&ours, &["--help"]);
    assert!(
        help.contains(&format!("The default DB is {}/conf.db.", here.path().display())),
        "{help}"
    );
    let (_, version, _) = with_defaults(&ours, &["-V"]);
    assert!(version.starts_with("ovsdb-tool (Open vSwitch) 3."), "{version}");
    assert!(version.contains("nonnet "), "{version}");
}
