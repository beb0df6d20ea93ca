//! What happened, one line of JSON a packet and command.
//!
//! Written by hand where a line has only numbers and names of our own: that is all of a
//! packet's line but the ports' names, which are quoted once at the start.

use std::collections::HashMap;
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

/// Writes the lines.
pub(crate) struct Report<W> {
    out: W,
    /// The ports' names as JSON has them.
    ports: Vec<String>,
    /// The services' and real servers' names, as long as no command changed them.
    services: HashMap<ServiceId, String>,
    reals: HashMap<RealId, (String, &'static str)>,
}

impl<W: Write> Report<W> {
    pub(crate) fn new<'a>(out: W, ports: impl Iterator<Item = &'a str>) -> Self {
        Self {
            out,
            ports: ports.map(quoted).collect(),
            services: HashMap::new(),
            reals: HashMap::new(),
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
            ports,
            services,
            reals,
        } = self;
        let port_name = |port: &PortId| ports[usize::from(port.0)].as_str();
        let (verdict, reason, by) = end(record.verdict);
        write!(out, r#"{{"n":{n},"t":{at},"in":{},"#, port_name(port))?;
        write!(out, r#""verdict":"{verdict}","reason":"#)?;
        name(out, reason)?;
        write!(
            out,
            r#","out":{},"frames":["#,
            by.as_ref().map_or("null", port_name)
        )?;
        for (at, Sent { port, frame }) in sent.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            let (port, bytes) = (port_name(port), frame.bytes().len());
            write!(out, r#"{comma}{{"out":{port},"bytes":{bytes}"#)?;
            if let Some(held) = frame.note.n.filter(|held| held != n) {
                write!(out, r#","n":{held}"#)?;
            }
            out.write_all(b"}")?;
        }
        let service = record.service.map(|id| {
            let name = || {
                engine
                    .service_name(id)
                    .map_or_else(String::new, |l| l.to_string())
            };
            &*services.entry(id).or_insert_with(name)
        });
        let real = record
            .real
            .map(|id| &*reals.entry(id).or_insert_with(|| real(engine, id)));
        let direction = record.side.map(|side| match side {
            Side::Client => "in",
            Side::Real => "out",
        });
        out.write_all(br#"],"service":"#)?;
        name(out, service.map(String::as_str))?;
        out.write_all(br#","real":"#)?;
        name(out, real.map(|(name, _)| name.as_str()))?;
        out.write_all(br#","mode":"#)?;
        name(out, real.map(|(_, mode)| *mode))?;
        out.write_all(br#","direction":"#)?;
        name(out, direction)?;
        let Record { worker, opened, .. } = record;
        writeln!(out, r#","worker":{worker},"new":{opened}}}"#)
    }

    /// A command's line.
    pub(crate) fn command(&mut self, at: Nanos, words: &[String], reply: &Reply) -> io::Result<()> {
        self.services.clear();
        self.reals.clear();
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

/// A name of ours, which needs no escapes, or `null`.
fn name(out: &mut impl Write, name: Option<&str>) -> io::Result<()> {
    match name {
        Some(name) => write!(out, r#""{name}""#),
        None => out.write_all(b"null"),
    }
}

/// A real server's name and mode.
fn real(engine: &Engine, id: RealId) -> (String, &'static str) {
    let name = engine
        .real_name(id)
        .map_or_else(String::new, |e| e.to_string());
    let real = engine.snapshot().reals.get(id.0);
    let mode = real.map_or("", |real| mode(&real.forwarder));
    (name, mode)
}
