//! Reads WebSocket messages out of a byte stream that somebody else receives (RFC 6455, section 5.2).

/// What was found in the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// The HTTP head before the WebSocket, with its last blank line.
    Head(String),
    /// A whole text message, put together where it came in fragments.
    Text(String),
    /// A whole binary message.
    Binary(Vec<u8>),
    /// A close frame and its code, if it had one.
    Close(Option<u16>),
    /// Ping or pong.
    Control,
    /// Bytes that are no WebSocket frame without extensions; nothing after them is read.
    Garbage(String),
}

/// Decodes one direction of a connection.
#[derive(Default)]
pub struct Decoder {
    buffer: Vec<u8>,
    head_read: bool,
    deaf: bool,
    message: Vec<u8>,
    text: bool,
}

impl Decoder {
    /// Takes the next bytes and gives what they completed.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<Found> {
        if self.deaf {
            return Vec::new();
        }
        self.buffer.extend_from_slice(bytes);
        let mut found = Vec::new();
        if !self.head_read {
            let Some(end) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") else {
                return found;
            };
            let head = String::from_utf8_lossy(&self.buffer[..end + 4]).into_owned();
            self.buffer.drain(..end + 4);
            self.head_read = true;
            // An answer other than 101 is followed by a body, not by frames.
            self.deaf = head.starts_with("HTTP/1.1 ") && !head.starts_with("HTTP/1.1 101");
            found.push(Found::Head(head));
        }
        while !self.deaf {
            let Some((opcode, last, payload)) = self.frame(&mut found) else { break };
            match opcode {
                0..=2 => {
                    if opcode != 0 {
                        self.text = opcode == 1;
                        self.message.clear();
                    }
                    self.message.extend(payload);
                    if last {
                        let message = std::mem::take(&mut self.message);
                        found.push(match (self.text, String::from_utf8(message)) {
                            (true, Ok(text)) => Found::Text(text),
                            (true, Err(_)) => Found::Garbage("a text message that is not UTF-8".into()),
                            (false, Ok(text)) => Found::Binary(text.into_bytes()),
                            (false, Err(error)) => Found::Binary(error.into_bytes()),
                        });
                    }
                }
                8 => {
                    let code = payload.get(..2).map(|two| u16::from_be_bytes([two[0], two[1]]));
                    found.push(Found::Close(code));
                }
                _ => found.push(Found::Control),
            }
        }
        found
    }

    /// Takes one whole frame off the buffer: opcode, whether it is the message's last, unmasked payload.
    fn frame(&mut self, found: &mut Vec<Found>) -> Option<(u8, bool, Vec<u8>)> {
        let [first, second, ..] = *self.buffer.as_slice() else { return None };
        if first & 0x70 != 0 || !matches!(first & 0x0f, 0 | 1 | 2 | 8 | 9 | 10) {
            self.deaf = true;
            found.push(Found::Garbage(format!("a frame that begins with {first:#04x}")));
            return None;
        }
        let (length, mut at) = match second & 0x7f {
            126 => (u64::from(u16::from_be_bytes(self.buffer.get(2..4)?.try_into().ok()?)), 4),
            127 => (u64::from_be_bytes(self.buffer.get(2..10)?.try_into().ok()?), 10),
            short => (u64::from(short), 2),
        };
        let mask: Option<[u8; 4]> = if second & 0x80 != 0 {
            at += 4;
            Some(self.buffer.get(at - 4..at)?.try_into().ok()?)
        } else {
            None
        };
        let end = at.checked_add(usize::try_from(length).ok()?)?;
        let mut payload = self.buffer.get(at..end)?.to_vec();
        if let Some(mask) = mask {
            payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, key)| *byte ^= key);
        }
        self.buffer.drain(..end);
        Some((first & 0x0f, first & 0x80 != 0, payload))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nX: y\r\n\r\n";

    fn decode(chunks: &[&[u8]]) -> Vec<Found> {
        let mut decoder = Decoder::default();
        chunks.iter().flat_map(|chunk| decoder.feed(chunk)).collect()
    }

    #[test]
    fn reads_masked_and_unmasked_text_byte_by_byte() {
        let mut bytes = HEAD.to_vec();
        // The examples of RFC 6455, section 5.7.
        bytes.extend([0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f]);
        bytes.extend([0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58]);
        let whole = decode(&[&bytes]);
        let one_by_one: Vec<_> = bytes.chunks(1).collect();
        assert_eq!(decode(&one_by_one), whole);
        assert_eq!(whole[1..], [Found::Text("Hello".into()), Found::Text("Hello".into())]);
    }

    #[test]
    fn joins_fragments_around_a_ping() {
        let fragments = [&[0x01, 0x03, 0x48, 0x65, 0x6c][..], &[0x89, 0], &[0x80, 0x02, 0x6c, 0x6f]];
        let mut bytes = HEAD.to_vec();
        bytes.extend(fragments.concat());
        assert_eq!(decode(&[&bytes])[1..], [Found::Control, Found::Text("Hello".into())]);
    }

    #[test]
    fn reads_long_messages_and_the_close_code() {
        let mut bytes = HEAD.to_vec();
        bytes.extend([0x82, 126, 0x01, 0x00]);
        bytes.extend([7; 256]);
        bytes.extend([0x88, 2, 0x03, 0xe8]);
        assert_eq!(decode(&[&bytes])[1..], [Found::Binary(vec![7; 256]), Found::Close(Some(1000))]);
    }

    #[test]
    fn tells_compressed_frames_and_reads_no_body_as_frames() {
        let mut bytes = HEAD.to_vec();
        bytes.extend([0xc1, 0x01, 0x48]);
        assert!(matches!(decode(&[&bytes])[1], Found::Garbage(_)));
        assert_eq!(decode(&[b"HTTP/1.1 404 Not Found\r\n\r\n\x81\x01a"]).len(), 1);
    }
}
