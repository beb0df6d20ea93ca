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
/// The longest line of a reply that a client needs to take, in octets.
pub const MAX_REPLY_LINE: usize = 4 * 1024 * 1024;

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

#[derive(Deserialize)]
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

#[derive(Serialize, Deserialize)]
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
}

/// Writes a reply, newlines included: one part for text, one or more for JSON.
pub fn encode_reply(framing: Framing, reply: Reply) -> Vec<String> {
    match framing {
        Framing::Text => vec![encode_text(&reply)],
        Framing::Json { id } => encode_json(id, reply),
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
    let object = JsonReply {
        v: VERSION,
        id,
        more: false,
        exit: Some(reply.exit),
        stdout: reply.stdout,
        stderr: reply.stderr,
        data: reply.data,
        generation: reply.generation,
    };
    vec![line(&object)]
}

fn line(object: &JsonReply) -> String {
    let mut text = serde_json::to_string(object).expect("strings and numbers are always JSON");
    text.push('\n');
    text
}
