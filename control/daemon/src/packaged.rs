//! The man page and completions of `sluiced` below `scripts/package` are what its options say.
//!
//! `SLUICE_PACKAGE=write cargo test -p sluiced packaged` writes them anew.

use std::fs;
use std::path::Path;

use clap::CommandFactory;
use clap_complete::{Shell, generate};
use clap_mangen::Man;

use crate::args::Args;

fn hold(name: &str, want: &[u8]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/package");
    let path = folder.join(name);
    if std::env::var_os("SLUICE_PACKAGE").is_some() {
        fs::create_dir_all(path.parent().expect("below the folder")).expect("a folder");
        fs::write(&path, want).expect("a file");
    }
    let have = fs::read(&path).unwrap_or_default();
    assert!(
        have == want,
        "scripts/package/{name} is behind; write it anew with \
         SLUICE_PACKAGE=write cargo test -p sluiced packaged"
    );
}

const REST: &str = "\
.SH ENVIRONMENT
.TP
\\fBSLUICE_LOG\\fR, \\fBRUST_LOG\\fR
what to log, unless \\fB\\-\\-log\\fR says it; \\fBsluice log\\fR changes it at run time
.SH SIGNALS
.TP
\\fBTERM\\fR, \\fBINT\\fR
a clean stop: VIPs are given up, forwarding goes on for a while; a second one stops at once
.TP
\\fBHUP\\fR
reads the configuration again, as \\fBsluice reload\\fR does
.SH FILES
.TP
\\fI/etc/sluice/sluice.toml\\fR
the configuration
.SH \"EXIT STATUS\"
.TP
\\fB0\\fR
stopped as asked
.TP
\\fB64\\fR
the command line
.TP
\\fB70\\fR
a fault in Sluice
.TP
\\fB71\\fR
a device, memory, hugepages, permission, the socket
.TP
\\fB78\\fR
the configuration
.SH \"SEE ALSO\"
\\fBsluice\\fR(8)
";

#[test]
fn man_page() {
    // Ours alone: which DPDK a build has is for `--version`.
    let command = Args::command().version(env!("CARGO_PKG_VERSION"));
    let man = Man::new(command).section("8").date("").manual("Sluice");
    let mut page = Vec::new();
    man.render(&mut page).expect("a vector takes everything");
    page.extend(REST.bytes());
    hold("man/sluiced.8", &page);
}

#[test]
fn completions() {
    for (shell, file) in [
        (Shell::Bash, "bash/sluiced.bash"),
        (Shell::Zsh, "zsh/_sluiced"),
        (Shell::Fish, "fish/sluiced.fish"),
    ] {
        let mut text = Vec::new();
        generate(shell, &mut Args::command(), "sluiced", &mut text);
        hold(&format!("completions/{file}"), &text);
    }
}
