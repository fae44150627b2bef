using System.Buffers;
using System.Buffers.Binary;
using System.Diagnostics.CodeAnalysis;
using ShardForge.Common;

namespace ShardForge.Network;

/// <summary>What goes over a peer link once its handshake is done.</summary>
/// <remarks><code>
/// frame   | length 4 | crc 4 | version 1 | kind 1 | flags 1 | priority 1 | code 2 | zero 2 | sequence 8 | correlation 8 | payload |
/// at        0          4       8           9        10        11           12       14       16           24              32
///   length       bytes after the crc: 24 and the payload                                             all numbers little-endian
///   crc          CRC-32C of the connection's seed, length, and all after the crc
///   version      what the handshake agreed on
///   kind         1 request, 2 one-way, 3 reply, 4 ping, 5 pong, 6 goodbye
///   flags        1 first, 2 last fragment of a message; 4 abandoned: the sender gave the message up, the fragments so far are void
///   priority     0 to 3; fragments of one message are in order within a priority, other messages' frames go between them
///   code         request, one-way: the service; reply: a ReplyStatus; goodbye: a RefusalCode; else 0
///   sequence     counts the frames of one direction of one connection from 0
///   correlation  reply: that of its request; pong: that of its ping
///   payload      of a first fragment that is not the last: | length of the whole message 4 | bytes |; else bytes
/// </code>
/// The seed is made of the two nonces of the handshake and the direction, so a frame of another connection, or sent back, fails its
/// checksum; one that comes twice has an old sequence number and is dropped; a gap ends the connection (R22). An unknown version or kind ends
/// the connection too, never skipped (R42).
/// One message per priority is in fragments at a time, so a receiver keeps at most four unfinished ones.
/// <code>
/// version  since
/// 1        first
/// </code></remarks>
internal static class FrameFormat
{
    public const int HeaderBytes = 32;
    public const int LengthBytes = 4;
    public const int PrefixBytes = 8;
    public const int TotalBytes = 4;
    public const int PriorityCount = 4;

    /// <summary>Smallest setting of a frame's largest size: a goodbye has to fit.</summary>
    public const int FrameBytesMaxLowest = 1_024;

    private const int CrcAt = 4, VersionAt = 8, KindAt = 9, FlagsAt = 10, PriorityAt = 11, CodeAt = 12, ZeroAt = 14, SequenceAt = 16, CorrelationAt = 24;

    /// <summary>Seed of the checksums of one direction of one connection.</summary>
    public static uint Seed(ulong dialledNonce, ulong acceptedNonce, LinkDirection sender) =>
        Crc32C.Append(Crc32C.Append(Crc32C.Append(0, dialledNonce), acceptedNonce), sender == LinkDirection.Outgoing ? 1u : 2u);

    /// <summary>Writes one frame; <paramref name="target"/> is exactly its size.</summary>
    /// <param name="target">Header, <see cref="TotalBytes"/> where <paramref name="total"/> is given, and the payload.</param>
    /// <param name="seed">The connection's seed of this direction.</param>
    /// <param name="header">All but the lengths.</param>
    /// <param name="total">Of a first fragment that is not the last: the message's length.</param>
    /// <param name="payload">This fragment's bytes.</param>
    public static void Write(Span<byte> target, uint seed, in FrameHeader header, int? total, ReadOnlySpan<byte> payload)
    {
        Invariant.Check(total is not null == (header.IsFirst && !header.IsLast));
        BinaryPrimitives.WriteInt32LittleEndian(target, target.Length - PrefixBytes);
        target[VersionAt] = header.Version;
        target[KindAt] = (byte)header.Kind;
        target[FlagsAt] = (byte)header.Flags;
        target[PriorityAt] = (byte)header.Priority;
        BinaryPrimitives.WriteUInt16LittleEndian(target[CodeAt..], header.Code);
        BinaryPrimitives.WriteUInt16LittleEndian(target[ZeroAt..], 0);
        BinaryPrimitives.WriteUInt64LittleEndian(target[SequenceAt..], header.Sequence);
        BinaryPrimitives.WriteUInt64LittleEndian(target[CorrelationAt..], header.Correlation);
        Span<byte> rest = target[HeaderBytes..];
        if (total is int messageBytes)
        {
            BinaryPrimitives.WriteInt32LittleEndian(rest, messageBytes);
            rest = rest[TotalBytes..];
        }

        payload.CopyTo(rest);
        Invariant.Check(rest.Length == payload.Length);
        uint crc = Crc32C.Append(Crc32C.Append(seed, target[..LengthBytes]), target[PrefixBytes..]);
        BinaryPrimitives.WriteUInt32LittleEndian(target[CrcAt..], crc);
    }

    /// <summary>Takes the next frame off the front. False: its end is not there yet.</summary>
    /// <param name="buffer">What came in; without the frame afterwards.</param>
    /// <param name="seed">The connection's seed of this direction.</param>
    /// <param name="version">What the handshake agreed on.</param>
    /// <param name="frameBytesMax">The largest frame, header included.</param>
    /// <param name="header">The frame's header.</param>
    /// <param name="payload">Valid as long as the buffer.</param>
    /// <exception cref="PeerProtocolException">The frame is damaged, or of a version or kind that is not known here. Nothing after it can be trusted.</exception>
    public static bool TryRead(
        ref ReadOnlySequence<byte> buffer, uint seed, byte version, int frameBytesMax, out FrameHeader header, out ReadOnlySequence<byte> payload)
    {
        header = default;
        payload = default;
        if (buffer.Length < LengthBytes)
            return false;

        Span<byte> start = stackalloc byte[HeaderBytes];
        uint length = BinaryPrimitives.ReadUInt32LittleEndian(FirstBytes(buffer, start[..LengthBytes]));
        if (length < HeaderBytes - PrefixBytes || length > (uint)(frameBytesMax - PrefixBytes))
            ThrowLength(length, frameBytesMax);
        long frameBytes = PrefixBytes + length;
        if (buffer.Length < frameBytes)
            return false;

        ReadOnlySequence<byte> frame = buffer.Slice(0, frameBytes);
        ReadOnlySpan<byte> fixedPart = FirstBytes(frame, start);
        uint stored = BinaryPrimitives.ReadUInt32LittleEndian(fixedPart[CrcAt..]);
        uint computed = Crc32C.Append(seed, fixedPart[..LengthBytes]);
        foreach (ReadOnlyMemory<byte> segment in frame.Slice(PrefixBytes))
            computed = Crc32C.Append(computed, segment.Span);
        if (stored != computed)
            ThrowChecksum(stored, computed);

        header = new FrameHeader(
            fixedPart[VersionAt],
            (FrameKind)fixedPart[KindAt],
            (FrameFlags)fixedPart[FlagsAt],
            (PeerPriority)fixedPart[PriorityAt],
            BinaryPrimitives.ReadUInt16LittleEndian(fixedPart[CodeAt..]),
            BinaryPrimitives.ReadUInt64LittleEndian(fixedPart[SequenceAt..]),
            BinaryPrimitives.ReadUInt64LittleEndian(fixedPart[CorrelationAt..]));
        if (header.Version != version || header.Kind is < FrameKind.Request or > FrameKind.Goodbye)
            ThrowUnknown(header, version);
        ushort zero = BinaryPrimitives.ReadUInt16LittleEndian(fixedPart[ZeroAt..]);
        if ((header.Flags & ~FrameFlags.All) != FrameFlags.None || (int)header.Priority >= PriorityCount || zero != 0)
            ThrowFields(header);

        payload = frame.Slice(HeaderBytes);
        buffer = buffer.Slice(frameBytes);
        return true;
    }

    private static ReadOnlySpan<byte> FirstBytes(in ReadOnlySequence<byte> buffer, Span<byte> scratch)
    {
        ReadOnlySpan<byte> first = buffer.FirstSpan;
        if (first.Length >= scratch.Length)
            return first[..scratch.Length];
        buffer.Slice(0, scratch.Length).CopyTo(scratch);
        return scratch;
    }

    [DoesNotReturn]
    private static void ThrowLength(uint length, int frameBytesMax) =>
        throw new PeerProtocolException(
            RefusalCode.Corruption, $"Frame length {length:N0} is not between {HeaderBytes - PrefixBytes} and {frameBytesMax - PrefixBytes:N0}.");

    [DoesNotReturn]
    private static void ThrowChecksum(uint stored, uint computed) =>
        throw new PeerProtocolException(RefusalCode.Corruption, $"Frame's CRC-32C stored {stored:x8}, computed {computed:x8}.");

    [DoesNotReturn]
    private static void ThrowUnknown(in FrameHeader header, byte version) =>
        throw new PeerProtocolException(
            RefusalCode.UnknownFrame, $"Frame of version {header.Version}, kind {(byte)header.Kind}; known here: version {version}, kinds 1 to 6.");

    [DoesNotReturn]
    private static void ThrowFields(in FrameHeader header) =>
        throw new PeerProtocolException(
            RefusalCode.UnknownFrame, $"Frame with flags {(byte)header.Flags:x2}, priority {(byte)header.Priority}, or bytes that must be zero and are not.");
}

/// <summary>A frame's header without its length and checksum.</summary>
internal readonly record struct FrameHeader(
    byte Version, FrameKind Kind, FrameFlags Flags, PeerPriority Priority, ushort Code, ulong Sequence, ulong Correlation)
{
    public bool IsFirst => (Flags & FrameFlags.First) != FrameFlags.None;

    public bool IsLast => (Flags & FrameFlags.Last) != FrameFlags.None;

    public bool IsAbandoned => (Flags & FrameFlags.Abandoned) != FrameFlags.None;
}

internal enum FrameKind : byte
{
    None = 0,
    Request = 1,
    OneWay = 2,
    Reply = 3,
    Ping = 4,
    Pong = 5,
    Goodbye = 6,
}

[Flags]
internal enum FrameFlags : byte
{
    None = 0,
    First = 1,
    Last = 2,
    Whole = First | Last,
    Abandoned = 4,
    All = First | Last | Abandoned,
}

/// <summary>What became of a request at its receiver. On the wire.</summary>
internal enum ReplyStatus : ushort
{
    Answered = 0,

    /// <summary>The handler threw; the payload is the error's text.</summary>
    HandlerFailed = 1,

    /// <summary>Nobody there for that service. The request was not looked at.</summary>
    NoHandler = 2,

    /// <summary>Too much is running there. The request was not looked at.</summary>
    Overloaded = 3,
}

/// <summary>The other side broke the protocol: the connection ends, and it is told why.</summary>
internal sealed class PeerProtocolException(RefusalCode code, string text) : Exception(text)
{
    public RefusalCode Code { get; } = code;
}
