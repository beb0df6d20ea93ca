//! The operator's commands, each with its time.

use crate::error::ReplayError;
use crate::time::Nanos;

/// What is done at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) at: Nanos,
    /// The words behind the time, without `ipvsadm` in front.
    pub(crate) words: Vec<String>,
}

/// Reads the lines of a file: `SECONDS arguments`, comments from `#` on.
///
/// # Errors
/// A time that is none, or before the one of an earlier line.
pub(crate) fn read(text: &str, name: &str) -> Result<Vec<Step>, ReplayError> {
    let mut steps: Vec<Step> = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let mut words = line
            .split_whitespace()
            .take_while(|word| !word.starts_with('#'))
            .peekable();
        let Some(first) = words.next() else {
            continue;
        };
        let usage = |what: String| ReplayError::Usage(format!("{name}:{number}: {what}"));
        let Some(at) = Nanos::parse(first) else {
            return Err(usage(format!("{first:?} is no time in seconds")));
        };
        if let Some(before) = steps
            .last()
            .map(|step| step.at)
            .filter(|&before| before > at)
        {
            return Err(usage(format!("time goes back, from {before} to {at}")));
        }
        words.next_if_eq(&"ipvsadm");
        steps.push(Step {
            at,
            words: words.map(str::to_owned).collect(),
        });
    }
    Ok(steps)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_times_and_words() {
        let text =
            "# nothing\n0 -A -t 10.0.0.1:80 -s rr # comment\n\n 2.5\tipvsadm -Lnc\n3 -C ipvsadm\n";
        let steps = read(text, "c").expect("good");
        let shown: Vec<_> = steps
            .iter()
            .map(|step| (step.at.to_string(), step.words.join(" ")))
            .collect();
        let want = [
            ("0", "-A -t 10.0.0.1:80 -s rr"),
            ("2.5", "-Lnc"),
            ("3", "-C ipvsadm"),
        ];
        assert_eq!(
            shown,
            want.map(|(at, words)| (at.to_owned(), words.to_owned()))
        );
    }

    #[test]
    fn a_bad_time_has_its_line() {
        let cases = [
            ("0 -C\nsoon -C\n", "c:2: \"soon\" is no time in seconds"),
            ("1 -C\n\n0.5 -C\n", "c:3: time goes back, from 1 to 0.5"),
            ("-A -t 10.0.0.1:80\n", "c:1: \"-A\" is no time in seconds"),
        ];
        for (text, want) in cases {
            let error = read(text, "c").expect_err("bad");
            assert_eq!((error.to_string().as_str(), error.exit()), (want, 2));
        }
    }
}
