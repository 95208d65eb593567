//! The bytes of a socket on their way in. How long a message is stands in front of it (RFC 6455, section 5.2): a long one is
//! read once there is room for it among all that this node handles at the moment, and until then the station waits.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::PollSemaphore;

/// A message of more bytes is a long one. What a socket may hold without asking for room.
const LONG: u64 = 64 * 1024;
/// The bytes of a message, its samples and what is stored of it, to one byte of the message.
const TIMES: u64 = 6;
/// The unit of room.
const KIB: u64 = 1024;
/// Bytes a second at least of a long message that holds room others may wait for.
const SLOWEST: u64 = 1024;
/// How long it is given before it counts as too slow.
const PATIENCE: Duration = Duration::from_secs(60);

/// Room for the long messages of all sockets, bytes.
pub(crate) fn room(bytes: u64) -> Arc<Semaphore> {
    let units = usize::try_from(bytes / KIB).unwrap_or(Semaphore::MAX_PERMITS);
    Arc::new(Semaphore::new(units.min(Semaphore::MAX_PERMITS)))
}

/// A socket that reads so.
pub(super) struct Intake {
    /// Away only while another frame reader is put in the place of the one before.
    stream: Option<TcpStream>,
    room: PollSemaphore,
    longest: u64,
    position: Position,
    held: Option<Held>,
    read_at: Instant,
    waits: bool,
}

/// Room that is held for a message on its way.
struct Held {
    _room: OwnedSemaphorePermit,
    since: Instant,
    read: u64,
}

impl Intake {
    pub(super) fn new(stream: TcpStream, room: &Arc<Semaphore>, longest: usize) -> Self {
        Self { stream: Some(stream), ..Self::hollow(room, longest) }
    }

    /// One without a socket, to take the place of another.
    pub(super) fn hollow(room: &Arc<Semaphore>, longest: usize) -> Self {
        Self {
            stream: None,
            room: PollSemaphore::new(room.clone()),
            longest: longest as u64,
            position: Position::default(),
            held: None,
            read_at: Instant::now(),
            waits: false,
        }
    }

    /// Counts what was read before, with the handshake.
    pub(super) fn after(mut self, rest: &[u8]) -> Self {
        self.position.advance(rest);
        self
    }

    /// When anything came; a station that has to wait until there is room is not silent.
    pub(super) fn read_at(&self) -> Instant {
        if self.waits { Instant::now() } else { self.read_at }
    }

    /// Whether a long message comes so slowly that it may keep others waiting for ever.
    pub(super) fn is_too_slow(&self, now: Instant) -> bool {
        self.held.as_ref().is_some_and(|held| {
            let time = now.saturating_duration_since(held.since);
            time >= PATIENCE && held.read < time.as_secs() * SLOWEST && self.position.is_inside()
        })
    }

    /// Gives the room back once a message was handled. `true`: it was a long one, and all of its bytes are out of here, so
    /// that the frame reader and its buffer can be made anew.
    pub(super) fn done(&mut self) -> bool {
        !self.position.is_inside() && self.held.take().is_some()
    }

    /// Waits for room where the message that comes is a long one.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let length = self.position.message(self.longest);
        // What is too long is refused by its header.
        if length <= LONG || length > self.longest || self.held.is_some() {
            return Poll::Ready(Ok(()));
        }
        let units = u32::try_from((length * TIMES).div_ceil(KIB)).unwrap_or(u32::MAX);
        self.waits = true;
        let room = ready!(self.room.poll_acquire_many(cx, units)).ok_or(io::ErrorKind::BrokenPipe)?;
        self.waits = false;
        self.held = Some(Held { _room: room, since: Instant::now(), read: 0 });
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Intake {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_room(cx))?;
        let this = &mut *self;
        let Some(stream) = &mut this.stream else { return Poll::Ready(Ok(())) };
        // Of a long message not a byte beyond its end: see `done`.
        let most = if this.held.is_some() { this.position.wanted() } else { u64::MAX };
        let most = usize::try_from(most).unwrap_or(usize::MAX).min(buf.remaining());
        let mut part = ReadBuf::new(buf.initialize_unfilled_to(most));
        ready!(Pin::new(stream).poll_read(cx, &mut part))?;
        let read = part.filled().len();
        this.position.advance(part.filled());
        buf.advance(read);
        if read > 0 {
            this.read_at = Instant::now();
        }
        if let Some(held) = &mut this.held {
            held.read += read as u64;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Intake {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Some(stream) => Pin::new(stream).poll_write(cx, buf),
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Some(stream) => Pin::new(stream).poll_flush(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Some(stream) => Pin::new(stream).poll_shutdown(cx),
            None => Poll::Ready(Ok(())),
        }
    }
}

/// Where in the stream of frames the next byte stands.
#[derive(Debug, Default)]
struct Position {
    /// The bytes of a frame's header so far.
    header: Vec<u8>,
    /// Bytes of the frame that are to come, once its header is known.
    left: Option<u64>,
    /// Bytes of the message up to the end of this frame.
    message: u64,
    /// Whether more frames of the message follow.
    more: bool,
    /// Whether this frame is one of the message, and not a ping or pong between them.
    of_message: bool,
}

impl Position {
    fn is_inside(&self) -> bool {
        self.left.is_some() || self.more || !self.header.is_empty()
    }

    /// Bytes of the message that comes; of one in several frames nobody knows, so the most.
    fn message(&self, longest: u64) -> u64 {
        if self.more && self.message > LONG { self.message.max(longest) } else { self.message }
    }

    /// Bytes up to the end of this frame or header.
    fn wanted(&self) -> u64 {
        self.left.unwrap_or_else(|| (header_length(&self.header) - self.header.len()) as u64)
    }

    fn advance(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            match self.left {
                Some(left) => {
                    let here = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                    bytes = &bytes[here..];
                    self.left = Some(left - here as u64);
                }
                None => {
                    let here = (header_length(&self.header) - self.header.len()).min(bytes.len());
                    self.header.extend(&bytes[..here]);
                    bytes = &bytes[here..];
                    if header_length(&self.header) == self.header.len() {
                        self.begin_frame();
                    }
                }
            }
            if self.left == Some(0) {
                self.end_frame();
            }
        }
    }

    fn begin_frame(&mut self) {
        let (first, length) = (self.header[0], self.header[1] & 0x7f);
        let extended = match length {
            126 => &self.header[2..4],
            127 => &self.header[2..10],
            _ => &[][..],
        };
        let length = match length {
            126 | 127 => extended.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
            short => u64::from(short),
        };
        // Opcodes from 8 on are control frames.
        self.of_message = first & 0x08 == 0;
        if self.of_message {
            self.message = self.message.saturating_add(length);
            self.more = first & 0x80 == 0;
        }
        self.left = Some(length);
        self.header.clear();
    }

    fn end_frame(&mut self) {
        self.left = None;
        if self.of_message && !self.more {
            self.message = 0;
        }
    }
}

/// Bytes of a header that begins so: two, the length where it is long, the mask.
fn header_length(begin: &[u8]) -> usize {
    let Some(second) = begin.get(1) else { return 2 };
    let length = match second & 0x7f {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    2 + length + if second & 0x80 == 0 { 0 } else { 4 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(first: u8, payload: usize) -> Vec<u8> {
        let mut bytes = vec![first];
        match payload {
            0..126 => bytes.push(0x80 | u8::try_from(payload).unwrap_or_default()),
            126..65_536 => {
                bytes.push(0x80 | 126);
                bytes.extend(u16::try_from(payload).unwrap_or_default().to_be_bytes());
            }
            _ => {
                bytes.push(0x80 | 127);
                bytes.extend((payload as u64).to_be_bytes());
            }
        }
        bytes.extend([1, 2, 3, 4]);
        bytes.extend(std::iter::repeat_n(b'x', payload));
        bytes
    }

    #[test]
    fn messages_are_followed_in_any_pieces() {
        for piece in [1, 7, 1000, 1_000_000] {
            let mut position = Position::default();
            for (bytes, inside) in [
                (frame(0x81, 5), false),
                (frame(0x82, 300), false),
                (frame(0x81, 0), false),
                (frame(0x01, 70_000), true),
                (frame(0x89, 4), true),
                (frame(0x00, 10), true),
                (frame(0x80, 10), false),
                (frame(0x8a, 0), false),
            ] {
                bytes.chunks(piece).for_each(|piece| position.advance(piece));
                assert_eq!((position.is_inside(), position.left), (inside, None), "{position:?}");
            }
            assert_eq!(position.message, 0);
        }
    }

    #[test]
    fn how_long_a_message_is_stands_in_front_of_it() {
        let mut position = Position::default();
        assert_eq!(position.wanted(), 2);
        let bytes = frame(0x81, 5_000_000);
        position.advance(&bytes[..14]);
        assert_eq!((position.message(1 << 24), position.wanted()), (5_000_000, 5_000_000));
        position.advance(&bytes[14..]);
        assert_eq!(position.message(1 << 24), 0);
        position.advance(&frame(0x01, 100_000));
        assert_eq!((position.message(1 << 24), position.wanted()), (1 << 24, 2), "of several frames the most");
    }
}
