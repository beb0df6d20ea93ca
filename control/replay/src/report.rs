//! What happened, one line of JSON a packet and command.
//!
//! A packet's line is put together by hand in a buffer, for the formatting of the library takes a
//! third of a replay's time. It has only numbers and names of our own, which need no escapes; the
//! ports' names are quoted once at the start.

use std::io::{self, Write};

use control::engine::Engine;
use control::trace::{end, mode};
use dataplane::conn::Side;
use dataplane::port::{Frame, PortId};
use dataplane::services::{RealId, ServiceId};
use proto::message::Reply;

use crate::frame::Record;
use crate::machine::Sent;
use crate::time::Nanos;

/// One packet that went through.
pub(crate) struct Packet<'a> {
    pub(crate) n: u64,
    pub(crate) at: Nanos,
    pub(crate) port: PortId,
    pub(crate) record: Record,
    /// What was written because of it.
    pub(crate) sent: &'a [Sent],
}

/// A service and a real server, where there are any.
type Who = (Option<ServiceId>, Option<RealId>);

/// Writes the lines.
pub(crate) struct Report<W> {
    out: W,
    /// A line that is put together.
    line: Line,
    /// The ports' names as JSON has them.
    ports: Vec<String>,
    /// What lines said last of each real server, and of none, as long as no command changed it.
    told: Vec<(Who, String)>,
}

impl<W: Write> Report<W> {
    pub(crate) fn new<'a>(out: W, ports: impl Iterator<Item = &'a str>) -> Self {
        Self {
            out,
            line: Line::default(),
            ports: ports.map(quoted).collect(),
            told: Vec::new(),
        }
    }

    /// A packet's line.
    pub(crate) fn packet(&mut self, packet: &Packet<'_>, engine: &Engine) -> io::Result<()> {
        let Packet {
            n,
            at,
            port,
            record,
            sent,
        } = packet;
        let Self {
            out,
            line,
            ports,
            told,
        } = self;
        let port_name = |port: PortId| ports[usize::from(port.0)].as_str();
        let (verdict, reason, by) = end(record.verdict);
        line.0.clear();
        line.text(r#"{"n":"#).number(*n).text(r#","t":"#).time(*at);
        line.text(r#","in":"#).text(port_name(*port));
        line.text(r#","verdict":""#).text(verdict);
        line.text(r#"","reason":"#).name(reason);
        line.text(r#","out":"#).text(by.map_or("null", port_name));
        line.text(r#","frames":["#);
        for (at, Sent { port, frame }) in sent.iter().enumerate() {
            line.text(if at == 0 { r#"{"out":"# } else { r#",{"out":"# });
            let octets = frame.bytes().len() as u64;
            line.text(port_name(*port))
                .text(r#","bytes":"#)
                .number(octets);
            if let Some(held) = frame.note.n.filter(|held| held != n) {
                line.text(r#","n":"#).number(held);
            }
            line.text("}");
        }
        line.text(tell(told, (record.service, record.real), engine));
        line.name(record.side.map(|side| match side {
            Side::Client => "in",
            Side::Real => "out",
        }));
        line.text(r#","worker":"#).number(record.worker.into());
        line.text(if record.opened {
            ",\"new\":true}\n"
        } else {
            ",\"new\":false}\n"
        });
        out.write_all(&line.0)
    }

    /// A command's line.
    pub(crate) fn command(&mut self, at: Nanos, words: &[String], reply: &Reply) -> io::Result<()> {
        self.told.clear();
        let command = quoted(&words.join(" "));
        let (stdout, stderr) = (quoted(&reply.stdout), quoted(&reply.stderr));
        let exit = reply.exit;
        writeln!(
            self.out,
            r#"{{"t":{at},"command":{command},"stdout":{stdout},"stderr":{stderr},"exit":{exit}}}"#
        )
    }

    /// The last line.
    pub(crate) fn totals(&mut self, totals: &[(&'static str, u64)]) -> io::Result<()> {
        let pairs: Vec<_> = totals
            .iter()
            .map(|(name, n)| format!(r#""{name}":{n}"#))
            .collect();
        writeln!(self.out, r#"{{"totals":{{{}}}}}"#, pairs.join(","))?;
        self.out.flush()
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A line so far.
#[derive(Default)]
struct Line(Vec<u8>);

impl Line {
    fn text(&mut self, text: &str) -> &mut Self {
        self.0.extend_from_slice(text.as_bytes());
        self
    }

    fn number(&mut self, n: u64) -> &mut Self {
        self.text(itoa::Buffer::new().format(n))
    }

    /// As it shows.
    fn time(&mut self, at: Nanos) -> &mut Self {
        let (seconds, part) = at.split();
        self.number(seconds);
        if part > 0 {
            // With all of its noughts in front.
            let mut digits = itoa::Buffer::new();
            let decimals = &digits.format(part + 1_000_000_000)[1..];
            self.text(".").text(decimals.trim_end_matches('0'));
        }
        self
    }

    /// A name of ours, which needs no escapes, or `null`.
    fn name(&mut self, name: Option<&str>) -> &mut Self {
        match name {
            Some(name) => self.text("\"").text(name).text("\""),
            None => self.text("null"),
        }
    }
}

/// What a line says behind its frames of a service and a real server, as far as the direction.
fn tell<'a>(told: &'a mut Vec<(Who, String)>, who: Who, engine: &Engine) -> &'a str {
    let at = who.1.map_or(0, |RealId(slot)| slot as usize + 1);
    if told.len() <= at {
        told.resize_with(at + 1, Default::default);
    }
    let known = &mut told[at];
    if known.0 != who || known.1.is_empty() {
        *known = (who, words(engine, who));
    }
    &known.1
}

fn words(engine: &Engine, (service, real): Who) -> String {
    let service = service.map(|id| {
        let listen = engine.service_name(id);
        listen.map_or_else(String::new, |listen| listen.to_string())
    });
    let of = real.and_then(|id| engine.snapshot().reals.get(id.0));
    let mode = real.map(|_| of.map_or("", |real| mode(&real.forwarder)));
    let real = real.map(|id| {
        let endpoint = engine.real_name(id);
        endpoint.map_or_else(String::new, |endpoint| endpoint.to_string())
    });
    let mut line = Line::default();
    line.text(r#"],"service":"#).name(service.as_deref());
    line.text(r#","real":"#).name(real.as_deref());
    line.text(r#","mode":"#).name(mode).text(r#","direction":"#);
    String::from_utf8(line.0).expect("made of text")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_as_they_show() {
        for nanos in [
            0,
            1,
            999,
            1_000_000_000,
            2_500_000_000,
            u64::MAX,
            1_700_000_000_000_000_300,
        ] {
            let mut line = Line::default();
            line.time(Nanos(nanos));
            assert_eq!(line.0, Nanos(nanos).to_string().as_bytes());
        }
    }
}
