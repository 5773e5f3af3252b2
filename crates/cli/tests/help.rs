//! Proves that what a user reads before doing anything changes only on purpose: the help of every command, the man pages
//! and the completions.

use std::path::Path;
use std::process::{Command, Output};

/// Runs the program in a terminal of a hundred columns, with nothing of the caller's environment.
fn lifeboat(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lifeboat"));
    command.args(arguments).env_clear().env("COLUMNS", "100");
    command.output().unwrap()
}

fn help(path: &[&str], flag: &str) -> String {
    let output = lifeboat(&[path, &[flag]].concat());
    assert_eq!(output.status.code(), Some(0), "{path:?}");
    assert!(output.stderr.is_empty(), "{path:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The commands that a help text lists.
fn commands(help: &str) -> Vec<String> {
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let names = lines
        .take_while(|line| !line.is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next());
    names
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect()
}

/// Every command, the ones that only hold others first.
fn all() -> Vec<Vec<String>> {
    let mut found = vec![Vec::new()];
    let mut at = 0;
    while let Some(path) = found.get(at).cloned() {
        let words: Vec<&str> = path.iter().map(String::as_str).collect();
        for name in commands(&help(&words, "--help")) {
            found.push([path.clone(), vec![name]].concat());
        }
        at += 1;
    }
    found
}

fn compare(name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.set_snapshot_path("help");
    settings.bind(|| insta::assert_snapshot!(name, text));
}

#[test]
fn the_help_of_every_command_is_what_it_was() {
    let all = all();
    assert!(all.len() > 20, "{all:?}");
    let mut failed = Vec::new();
    for path in &all {
        let words: Vec<&str> = path.iter().map(String::as_str).collect();
        let name = [&["lifeboat"], words.as_slice()].concat().join("-");
        let text = help(&words, "--help");
        for line in text.lines() {
            assert!(line.chars().count() <= 100, "{name}: too wide: {line}");
        }
        // All that differ are shown, not the first alone.
        if std::panic::catch_unwind(|| compare(&name, &text)).is_err() {
            failed.push(name);
        }
    }
    assert!(failed.is_empty(), "the help of these changed: {failed:?}");
    // No help is kept for a command that is gone.
    let kept = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/help")).unwrap();
    let kept =
        kept.filter(|entry| entry.as_ref().unwrap().path().extension() == Some("snap".as_ref()));
    assert_eq!(kept.count(), all.len());
}

#[test]
fn help_says_what_each_command_and_option_is_for() {
    for path in all() {
        let words: Vec<&str> = path.iter().map(String::as_str).collect();
        let text = help(&words, "-h");
        assert!(text.contains("Usage: "), "{path:?}");
        assert!(
            !text.starts_with("Usage"),
            "{path:?} says what it does first"
        );
        let lines: Vec<&str> = text.lines().collect();
        for (at, line) in lines.iter().enumerate() {
            // An option alone on its line is explained in the next.
            let indent = line.len() - line.trim_start().len();
            let alone = indent <= 6 && line.trim().starts_with('-') && !line.trim().contains("  ");
            let next = lines.get(at + 1).copied().unwrap_or_default();
            assert!(
                !alone || next.starts_with("          "),
                "{path:?}: nothing explains {line}"
            );
        }
    }
}

#[test]
fn without_arguments_the_program_shows_its_help() {
    for arguments in [&[][..], &["repo"], &["repo", "key"]] {
        let output = lifeboat(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(output.stdout.is_empty());
        assert!(
            String::from_utf8(output.stderr)
                .unwrap()
                .contains("Commands:")
        );
    }
    let version = lifeboat(&["--version"]);
    let expected = format!("lifeboat {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(String::from_utf8(version.stdout).unwrap(), expected);
}

#[test]
fn completions_know_every_command() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = lifeboat(&["generate", "completions", shell]);
        assert_eq!(output.status.code(), Some(0), "{shell}");
        let script = String::from_utf8(output.stdout).unwrap();
        for path in all() {
            for word in path {
                assert!(script.contains(&word), "{word} is missing for {shell}");
            }
        }
        for option in ["password-file", "read-data-subset", "keep-daily"] {
            assert!(script.contains(option), "{option} is missing for {shell}");
        }
    }
    // The shell that every system has takes it.
    let script = lifeboat(&["generate", "completions", "bash"]).stdout;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("lifeboat.bash");
    std::fs::write(&file, script).unwrap();
    let read = Command::new("bash")
        .args(["--norc", "-n"])
        .arg(&file)
        .output()
        .unwrap();
    assert!(read.status.success() && read.stderr.is_empty(), "{read:?}");
    assert_eq!(
        lifeboat(&["generate", "completions", "tcsh"]).status.code(),
        Some(2)
    );
}

#[test]
fn every_command_has_a_man_page() {
    let dir = tempfile::tempdir().unwrap();
    let pages = dir.path().join("new/man1");
    let output = lifeboat(&["generate", "man", pages.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    for path in all() {
        let name = ["lifeboat"]
            .into_iter()
            .chain(path.iter().map(String::as_str));
        let name = name.collect::<Vec<_>>().join("-");
        let page = std::fs::read_to_string(pages.join(format!("{name}.1")));
        let page = page.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(page.contains(".TH") && page.contains(".SH NAME"), "{name}");
    }
    // A place that can't be written is named.
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let output = lifeboat(&["generate", "man", file.join("man1").to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains(file.to_str().unwrap()) && said.contains("Not a directory"),
        "{said:?}"
    );
}
