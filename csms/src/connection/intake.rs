//! The bytes of a socket on their way in. How long a message is stands in front of it (RFC 6455, section 5.2): a long one is
//! read as there is room for it among all that come to this node at the moment, and until then the station waits.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};
use tokio_util::sync::PollSemaphore;

use super::room::{KIB, LONG, Room, STEP, Ticket};
use crate::registry::Held;

/// A socket that reads so.
pub(super) struct Intake {
    /// Away only while another frame reader is put in the place of the one before.
    stream: Option<TcpStream>,
    room: Arc<Room>,
    steps: PollSemaphore,
    connection: Arc<Held>,
    longest: u64,
    position: Position,
    /// Of the long message on its way.
    ticket: Option<Ticket>,
    read_at: Instant,
    /// While it waits for room: when others are to give way.
    waits: Option<Pin<Box<Sleep>>>,
}

impl Intake {
    pub(super) fn new(stream: TcpStream, room: &Arc<Room>, connection: &Arc<Held>, longest: usize) -> Self {
        Self { stream: Some(stream), ..Self::hollow(room, connection, longest) }
    }

    /// One without a socket, to take the place of another.
    pub(super) fn hollow(room: &Arc<Room>, connection: &Arc<Held>, longest: usize) -> Self {
        Self {
            stream: None,
            room: room.clone(),
            steps: PollSemaphore::new(room.coming.clone()),
            connection: connection.clone(),
            longest: longest as u64,
            position: Position::default(),
            ticket: None,
            read_at: Instant::now(),
            waits: None,
        }
    }

    /// Counts what was read before, with the handshake.
    pub(super) fn after(mut self, rest: &[u8]) -> Self {
        self.position.advance(rest);
        self
    }

    /// When anything came; a station that has to wait until there is room is not silent.
    pub(super) fn read_at(&self) -> Instant {
        if self.waits.is_some() { Instant::now() } else { self.read_at }
    }

    /// Gives the room back once a message was handled. `true`: it was a long one, and all of its bytes are out of here, so
    /// that the frame reader and its buffer can be made anew.
    pub(super) fn done(&mut self) -> bool {
        !self.position.is_inside() && self.ticket.take().is_some()
    }

    /// Waits for room for the next bytes where the message that comes is a long one.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let length = self.position.message(self.longest);
        // What is too long is refused by its header.
        if length <= LONG || (length > self.longest && self.ticket.is_none()) {
            return Poll::Ready(Ok(()));
        }
        let ticket = self.ticket.get_or_insert_with(|| self.room.enter(&self.connection));
        if ticket.left() > 0 {
            return Poll::Ready(Ok(()));
        }
        let bytes = length.saturating_sub(self.position.read).clamp(KIB, STEP);
        let units = u32::try_from(bytes.div_ceil(KIB)).unwrap_or(u32::MAX);
        loop {
            if let Poll::Ready(permit) = self.steps.poll_acquire_many(cx, units) {
                ticket.take(permit.ok_or(io::ErrorKind::BrokenPipe)?);
                self.waits = None;
                return Poll::Ready(Ok(()));
            }
            let patience = self.room.patience;
            let waits = self.waits.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
            ready!(waits.as_mut().poll(cx));
            self.room.make_way(Instant::now());
            waits.as_mut().reset(Instant::now() + patience);
        }
    }
}

impl AsyncRead for Intake {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_room(cx))?;
        let this = &mut *self;
        let Some(stream) = &mut this.stream else { return Poll::Ready(Ok(())) };
        // Of a long message not a byte beyond its end: see `done`.
        let ticket = this.ticket.as_ref().filter(|_| this.position.is_inside());
        let most = ticket.map_or(u64::MAX, |ticket| this.position.wanted().min(ticket.left()));
        let most = usize::try_from(most).unwrap_or(usize::MAX).min(buf.remaining());
        let mut part = ReadBuf::new(buf.initialize_unfilled_to(most));
        ready!(Pin::new(stream).poll_read(cx, &mut part))?;
        let read = part.filled().len();
        this.position.advance(part.filled());
        buf.advance(read);
        if read > 0 {
            this.read_at = Instant::now();
        }
        if let Some(ticket) = &mut this.ticket {
            ticket.read(read as u64);
            if !this.position.is_inside() {
                ticket.arrived();
            }
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
    /// Bytes of it that have come.
    read: u64,
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
                    self.read += if self.of_message { here as u64 } else { 0 };
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
            (self.message, self.read) = (0, 0);
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
