//! Requests and replies on the socket, one a line. Pure: lines in, lines out.
//!
//! A line that begins with `{` is JSON; any other is a call in ipvsadm's syntax. A JSON request
//! gets JSON objects, all but the last with `"more":true`; the text of all of them belongs
//! together, and so do the lists in their `data`. A text request gets what ipvsadm prints, then
//! a line `exit N`.

use serde::{Deserialize, Serialize};

use crate::listing::Listing;

/// The version of the JSON form.
pub const VERSION: u32 = 1;
/// The longest text request, in octets without its newline.
pub const MAX_TEXT_LINE: usize = 64 * 1024;
/// The longest JSON request, in octets without its newline: room for the standard input of a
/// restore of a hundred thousand lines.
pub const MAX_JSON_LINE: usize = 16 * 1024 * 1024;
/// About how many octets one object of a long reply carries.
pub const PART: usize = 256 * 1024;
/// How many services and real servers one object of a long listing carries.
const PART_ROWS: usize = 1000;
/// The longest line of a reply that a client needs to take, in octets: a service is never cut,
/// and may have 65,536 real servers.
pub const MAX_REPLY_LINE: usize = 64 * 1024 * 1024;

/// How many octets a request may have that begins with `first`.
pub fn line_limit(first: u8) -> usize {
    if first == b'{' {
        MAX_JSON_LINE
    } else {
        MAX_TEXT_LINE
    }
}

/// How a request came, and so how its reply goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// A line of words.
    Text,
    /// A JSON object with this number.
    Json {
        /// Chosen by the client, repeated in the reply.
        id: u64,
    },
}

impl Framing {
    /// How an answer to `line` has to go, even if it can't be understood.
    pub fn of(line: &[u8]) -> Self {
        #[derive(Deserialize)]
        struct Numbered {
            #[serde(default)]
            id: u64,
        }
        if line.first() != Some(&b'{') {
            return Self::Text;
        }
        let id = serde_json::from_slice(line).map_or(0, |Numbered { id }| id);
        Self::Json { id }
    }
}

/// What a JSON client wants to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// What ipvsadm prints, numeric.
    #[default]
    Text,
    /// Listings and saves as a [`Listing`].
    Data,
}

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// How it came.
    pub framing: Framing,
    /// The words of the call, without the program's name.
    pub argv: Vec<String>,
    /// Standard input, for `-R`.
    pub stdin: String,
    /// What the client wants to see.
    pub format: Format,
}

/// The answer to one request.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Reply {
    /// The exit code.
    pub exit: u8,
    /// What ipvsadm prints.
    pub stdout: String,
    /// What it complains about, each line ended by a newline.
    pub stderr: String,
    /// Listings in [`Format::Data`].
    pub data: Option<Listing>,
    /// The configuration's generation after the call.
    pub generation: u64,
    /// The first line of a restore's standard input that failed, from 1.
    pub line: Option<usize>,
}

/// A line that is no request or no reply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// Not what JSON or this form of it allows.
    #[error("malformed message: {0}")]
    Malformed(String),
    /// A version that this program does not speak.
    #[error("message version {0} is not supported (this is version {VERSION})")]
    Version(u32),
    /// Longer than allowed.
    #[error("a line of {length} octets is longer than the {limit} allowed")]
    TooLong {
        /// Octets seen.
        length: usize,
        /// Octets allowed.
        limit: usize,
    },
    /// Not UTF-8.
    #[error("a line is not UTF-8 text")]
    Encoding,
}

#[derive(Serialize, Deserialize)]
struct JsonRequest {
    v: u32,
    #[serde(default)]
    id: u64,
    argv: Vec<String>,
    #[serde(default)]
    stdin: String,
    #[serde(default)]
    format: Format,
}

/// Reads one request; `line` without its newline.
///
/// # Errors
/// A line that is too long, not UTF-8, not JSON of this form, or of another version.
pub fn decode_request(line: &[u8]) -> Result<Request, MessageError> {
    let limit = line_limit(line.first().copied().unwrap_or_default());
    if line.len() > limit {
        return Err(MessageError::TooLong {
            length: line.len(),
            limit,
        });
    }
    let text = std::str::from_utf8(line).map_err(|_| MessageError::Encoding)?;
    if text.starts_with('{') {
        decode_json(text)
    } else {
        Ok(text_request(text))
    }
}

fn decode_json(text: &str) -> Result<Request, MessageError> {
    let json: JsonRequest =
        serde_json::from_str(text).map_err(|error| MessageError::Malformed(error.to_string()))?;
    if json.v != VERSION {
        return Err(MessageError::Version(json.v));
    }
    Ok(Request {
        framing: Framing::Json { id: json.id },
        argv: json.argv,
        stdin: json.stdin,
        format: json.format,
    })
}

fn text_request(text: &str) -> Request {
    let mut words = text.split_whitespace().map(str::to_owned).peekable();
    words.next_if(|word| word == "ipvsadm");
    Request {
        framing: Framing::Text,
        argv: words.collect(),
        stdin: String::new(),
        format: Format::Text,
    }
}

/// Writes a request as JSON, newline included.
pub fn encode_request(id: u64, argv: &[String], stdin: &str, format: Format) -> String {
    let request = JsonRequest {
        v: VERSION,
        id,
        argv: argv.to_vec(),
        stdin: stdin.to_owned(),
        format,
    };
    line(&request)
}

#[derive(Default, Serialize, Deserialize)]
struct JsonReply {
    v: u32,
    #[serde(default)]
    id: u64,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    more: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    exit: Option<u8>,
    #[serde(default)]
    stdout: String,
    #[serde(default)]
    stderr: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    data: Option<Listing>,
    #[serde(default)]
    generation: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
}

/// Writes a reply, newlines included: one part for text, one or more for JSON.
pub fn encode_reply(framing: Framing, reply: Reply) -> Vec<String> {
    match framing {
        Framing::Text => vec![encode_text(&reply)],
        Framing::Json { id } => encode_json(id, reply),
    }
}

/// Writes a piece of a reply that more follows.
pub fn encode_part(framing: Framing, reply: Reply) -> Vec<String> {
    match framing {
        Framing::Text => vec![reply.stdout + &reply.stderr],
        Framing::Json { id } => vec![line(&JsonReply {
            v: VERSION,
            id,
            more: true,
            exit: None,
            stdout: reply.stdout,
            stderr: reply.stderr,
            data: reply.data,
            generation: reply.generation,
            line: None,
        })],
    }
}

fn encode_text(reply: &Reply) -> String {
    let mut text = format!("{}{}", reply.stdout, reply.stderr);
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text.push_str(&format!("exit {}\n", reply.exit));
    text
}

fn encode_json(id: u64, reply: Reply) -> Vec<String> {
    let mut parts: Vec<JsonReply> = Vec::new();
    let texts = cut_text(reply.stdout);
    parts.extend(texts.map(|stdout| JsonReply {
        stdout,
        ..JsonReply::default()
    }));
    let texts = cut_text(reply.stderr);
    parts.extend(texts.map(|stderr| JsonReply {
        stderr,
        ..JsonReply::default()
    }));
    for data in reply.data.into_iter().flat_map(cut_listing) {
        parts.push(JsonReply {
            data: Some(data),
            ..JsonReply::default()
        });
    }
    let mut parts = join(parts);
    let last = parts.len() - 1;
    for (at, part) in parts.iter_mut().enumerate() {
        part.v = VERSION;
        part.id = id;
        part.more = at < last;
        part.exit = (at == last).then_some(reply.exit);
        part.line = reply.line.filter(|_| at == last);
        part.generation = reply.generation;
    }
    parts.iter().map(line).collect()
}

/// Makes one object of all if that is short; else each stays its own. Never empty.
fn join(parts: Vec<JsonReply>) -> Vec<JsonReply> {
    let texts = |part: &JsonReply| part.stdout.len() + part.stderr.len();
    let listings = parts.iter().filter(|part| part.data.is_some()).count();
    if listings > 1 || parts.iter().map(texts).sum::<usize>() > PART {
        return parts;
    }
    let mut whole = JsonReply::default();
    for part in parts {
        whole.stdout += &part.stdout;
        whole.stderr += &part.stderr;
        whole.data = whole.data.or(part.data);
    }
    vec![whole]
}

/// Pieces of about [`PART`] octets, cut between characters; none of an empty text.
fn cut_text(mut text: String) -> impl Iterator<Item = String> {
    std::iter::from_fn(move || {
        if text.is_empty() {
            return None;
        }
        let mut at = PART.min(text.len());
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        let rest = text.split_off(at);
        Some(std::mem::replace(&mut text, rest))
    })
}

/// Pieces of about [`PART_ROWS`] rows; at least one, so that a client sees that there is data.
fn cut_listing(listing: Listing) -> Vec<Listing> {
    let Listing {
        services,
        connections,
        daemons,
        timeouts,
    } = listing;
    let mut parts = vec![Listing {
        daemons,
        timeouts,
        ..Listing::default()
    }];
    let mut rows = 0;
    for service in services {
        let part = room(&mut parts, &mut rows, 1 + service.reals.len());
        part.services.push(service);
    }
    for connection in connections {
        room(&mut parts, &mut rows, 1).connections.push(connection);
    }
    parts
}

/// The part that the next rows go to: the last one, or a new one behind it if that is full.
fn room<'a>(parts: &'a mut Vec<Listing>, rows: &mut usize, more: usize) -> &'a mut Listing {
    if *rows > 0 && *rows + more > PART_ROWS {
        parts.push(Listing::default());
        *rows = 0;
    }
    *rows += more;
    parts.last_mut().expect("it starts with one and only grows")
}

fn line(object: &impl Serialize) -> String {
    let mut text = serde_json::to_string(object).expect("strings and numbers are always JSON");
    text.push('\n');
    text
}

/// One object of a JSON reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The number of the request.
    pub id: u64,
    /// Another object follows; the exit code of this one means nothing.
    pub more: bool,
    /// What it says.
    pub reply: Reply,
}

/// Reads one object of a reply; `line` without its newline.
///
/// # Errors
/// A line that is too long, not JSON of this form, or of another version, or a last object
/// without an exit code.
pub fn decode_reply(line: &[u8]) -> Result<Part, MessageError> {
    if line.len() > MAX_REPLY_LINE {
        return Err(MessageError::TooLong {
            length: line.len(),
            limit: MAX_REPLY_LINE,
        });
    }
    let json: JsonReply =
        serde_json::from_slice(line).map_err(|error| MessageError::Malformed(error.to_string()))?;
    if json.v != VERSION {
        return Err(MessageError::Version(json.v));
    }
    if json.exit.is_none() && !json.more {
        return Err(MessageError::Malformed(
            "the last object has no exit code".to_owned(),
        ));
    }
    let JsonReply {
        id,
        more,
        exit,
        stdout,
        stderr,
        data,
        generation,
        line,
        ..
    } = json;
    let reply = Reply {
        exit: exit.unwrap_or(0),
        stdout,
        stderr,
        data,
        generation,
        line,
    };
    Ok(Part { id, more, reply })
}

#[cfg(test)]
mod tests;
