//! The man pages and completions below `scripts/package` are what the grammar says today.
//!
//! `SLUICE_PACKAGE=write cargo test -p sluice packaged` writes them anew.

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, Command, CommandFactory};
use clap_complete::{Shell, generate};
use clap_mangen::Man;
use proto::grammar::{Value, Word, words};
use proto::help;

use crate::subcommands::Line;

/// Where they are.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/package")
}

/// Holds a file against what it should be, or writes it if the environment asks for that.
fn hold(name: &str, want: &[u8]) {
    let path = folder().join(name);
    if std::env::var_os("SLUICE_PACKAGE").is_some() {
        fs::create_dir_all(path.parent().expect("below the folder")).expect("a folder");
        fs::write(&path, want).expect("a file");
    }
    let have = fs::read(&path).unwrap_or_default();
    assert!(
        have == want,
        "scripts/package/{name} is not what the grammar says; write it anew with \
         SLUICE_PACKAGE=write cargo test -p sluice packaged"
    );
}

/// ipvsadm's options as clap knows them: only for shells, which take no part in the grammar's rules.
fn with_options(mut command: Command) -> Command {
    let mut letters = Vec::new();
    for word in words() {
        let mut arg = Arg::new(word.long).long(word.long).help(meaning(word));
        // One letter may stand for two words, by the command that it follows.
        if let Some(&letter) = word.short.first().filter(|it| !letters.contains(*it)) {
            letters.push(letter);
            arg = arg.short(letter);
        }
        arg = match word.value {
            Value::Never => arg.action(ArgAction::SetTrue),
            Value::Optional => arg.num_args(0..=1),
            Value::Needed => arg.num_args(1),
        };
        command = command.arg(arg);
    }
    command.disable_help_flag(true).disable_version_flag(true)
}

/// What the help says of a word, if it has a line of its own there.
fn meaning(word: Word) -> String {
    let option = format!("--{}", word.long);
    let help = help::help("ipvsadm");
    let own = help.lines().find_map(|line| {
        let (_, rest) = line.split_once(&option)?;
        let (head, text) = rest.split_once("  ")?;
        (head.len() < 20 && !text.contains("--")).then(|| text.trim().to_owned())
    });
    own.filter(|text| !text.is_empty())
        .unwrap_or_else(|| word.long.replace('-', " "))
}

/// A text as it is, for roff.
fn verbatim(text: &str) -> String {
    let mut roff = String::from(".nf\n");
    for line in text.lines() {
        let line = line.replace('\\', "\\e").replace('-', "\\-");
        let guard = if line.starts_with(['.', '\'']) {
            "\\&"
        } else {
            ""
        };
        roff.push_str(&format!("{guard}{line}\n"));
    }
    roff + ".fi\n"
}

const REST: &str = "\
.SH ENVIRONMENT
.TP
\\fBSLUICE_SOCKET\\fR
where sluiced listens, unless \\fB\\-\\-socket\\fR says it
.SH FILES
.TP
\\fI/run/sluice/sluice.sock\\fR
where sluiced listens, unless it is told otherwise
.SH \"EXIT STATUS\"
.TP
\\fB0\\fR
done
.TP
\\fB1\\fR
a negative answer
.TP
\\fB2\\fR
a wrong call, or no daemon
.TP
\\fB255\\fR
the daemon refused
.SH \"SEE ALSO\"
\\fBsluiced\\fR(8)
";

/// `sluice.8`: subcommands, then ipvsadm's grammar as `-h` explains it.
fn page() -> Vec<u8> {
    let mut command = Line::command().disable_help_subcommand(true);
    command.build();
    let man = Man::new(command).section("8").date("").manual("Sluice");
    let mut page = Vec::new();
    let rendered = man
        .render_title(&mut page)
        .and_then(|()| man.render_name_section(&mut page))
        .and_then(|()| man.render_synopsis_section(&mut page))
        .and_then(|()| man.render_description_section(&mut page))
        .and_then(|()| man.render_options_section(&mut page))
        .and_then(|()| man.render_subcommands_section(&mut page));
    rendered.expect("a vector takes everything");
    let grammar = format!(
        ".SH \"IPVSADM'S GRAMMAR\"\n\
         Called as \\fBipvsadm\\fR, \\fBipvsadm\\-save\\fR or \\fBipvsadm\\-restore\\fR it takes \
         this and nothing else.\n.PP\n{}",
        verbatim(&help::help("sluice"))
    );
    page.extend(grammar.bytes());
    page.extend(REST.bytes());
    page
}

#[test]
fn man_pages() {
    hold("man/sluice.8", &page());
    let mut command = Line::command();
    command.build();
    for sub in command
        .get_subcommands()
        .filter(|it| it.get_name() != "help")
    {
        let name = format!("sluice-{}", sub.get_name());
        let shown = sub
            .clone()
            .name(&*name.clone().leak())
            .version(env!("CARGO_PKG_VERSION"));
        let man = Man::new(shown).section("8").date("").manual("Sluice");
        let mut page = Vec::new();
        man.render(&mut page).expect("a vector takes everything");
        hold(&format!("man/{name}.8"), &page);
    }
    // As man-db has it: the page of another.
    for name in ["ipvsadm", "ipvsadm-save", "ipvsadm-restore"] {
        hold(&format!("man/drop-in/{name}.8"), b".so man8/sluice.8\n");
    }
}

#[test]
fn completions() {
    for (shell, prefix, suffix) in [
        (Shell::Bash, "", ".bash"),
        (Shell::Zsh, "_", ""),
        (Shell::Fish, "", ".fish"),
    ] {
        for (name, command) in [
            ("sluice", with_options(Line::command())),
            ("ipvsadm", with_options(Command::new("ipvsadm"))),
        ] {
            let mut text = Vec::new();
            generate(shell, &mut command.clone(), name, &mut text);
            let folder = shell.to_string();
            hold(
                &format!("completions/{folder}/{prefix}{name}{suffix}"),
                &text,
            );
        }
    }
}

#[test]
fn every_word_of_the_grammar_is_completed() {
    let mut text = Vec::new();
    let mut command = with_options(Command::new("ipvsadm"));
    generate(Shell::Bash, &mut command, "ipvsadm", &mut text);
    let text = String::from_utf8(text).expect("words");
    for word in words() {
        assert!(text.contains(&format!("--{}", word.long)), "{}", word.long);
    }
}
