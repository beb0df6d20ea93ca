//! The standard input of `-R`: one call a line.

/// One call of a restore.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The line it stands on, from 1.
    pub line: usize,
    /// Its words, without `ipvsadm`.
    pub argv: Vec<String>,
}

/// Splits a restore into calls.
///
/// Words are cut at white space, with no quoting, and any word that is exactly `ipvsadm` is left
/// out. Blank lines and those that begin with `#` are skipped: the real ipvsadm stops there.
/// Running them is the caller's: a call whose options are wrong ends the restore, a call that the
/// daemon refuses ([`Failure::refusal`](crate::errors::Failure::refusal)) is reported and the rest
/// goes on.
pub fn calls(stdin: &str) -> impl Iterator<Item = Call> {
    stdin.lines().enumerate().filter_map(|(at, line)| {
        if line.trim_start().starts_with('#') {
            return None;
        }
        let argv: Vec<String> = line
            .split_whitespace()
            .filter(|word| *word != "ipvsadm")
            .map(str::to_owned)
            .collect();
        (!argv.is_empty()).then_some(Call { line: at + 1, argv })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_calls() {
        let text = "-A -t 10.0.0.1:80\n\n  # a comment\nipvsadm -a\t-t 10.0.0.1:80  -r 10.0.0.2\r\n \n-C # x";
        let got: Vec<_> = calls(text)
            .map(|call| (call.line, call.argv.join(" ")))
            .collect();
        let want = [
            (1, "-A -t 10.0.0.1:80"),
            (4, "-a -t 10.0.0.1:80 -r 10.0.0.2"),
            (6, "-C # x"),
        ];
        assert_eq!(got, want.map(|(line, words)| (line, words.to_owned())));
    }

    #[test]
    fn a_line_of_nothing_but_the_name_lists_nothing() {
        assert_eq!(calls("ipvsadm\n").count(), 0);
        assert_eq!(calls("").count(), 0);
    }
}
