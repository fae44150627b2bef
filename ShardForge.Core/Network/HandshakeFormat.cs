using System.Buffers;
using System.Buffers.Binary;
using System.Net;
using System.Text;
using ShardForge.Common;

namespace ShardForge.Network;

/// <summary>What goes over a connection before anything else.</summary>
/// <remarks><code>
/// message  | length 4 | crc 4 | magic 4 "SFPL" | kind 1 | lowest 2 | highest 2 | rest |                  all numbers little-endian
///   length     bytes after the crc; at most 2,040, so that a stranger costs no more
///   crc        CRC-32C of length and all after the crc
///   kind       1 hello, 2 accepted, 3 refused
///   lowest, highest   protocol versions that the sender speaks
///   rest       as the sender's lowest version lays it out; all of version 1:
/// hello    | purpose 1 | role 1 | nonce 8 | largest frame 4 | feature level 4 | cluster id 16 | instance id 16 | open counter 8 | log end 8 |
///          | expected node id | node id | cluster name | advertised address |
/// accepted | nothing |
/// refused  | code 2 | length 2 | text |
///   ids, names  length 1, UTF-8; expected node id: whom the sender dials, empty if it does not know
///
/// dialler: hello ─→      acceptor: checks, then hello or refused ─→      dialler: checks, then accepted or refused ─→      frames
/// </code>
/// What stands before <c>rest</c> never changes, so that any two versions can at least tell each other why they do not talk.
/// <code>
/// version  since
/// 1        first
/// </code></remarks>
internal static class HandshakeFormat
{
    public const int MessageBytesMax = 2_048;
    public const uint Magic = 0x4C50_4653;
    private const int PrefixBytes = 8, FixedBytes = 9, RefusalTextBytesMax = 512;

    private static readonly UTF8Encoding s_strictUtf8 = new(encoderShouldEmitUTF8Identifier: false, throwOnInvalidBytes: true);

    public static void WriteHello(IBufferWriter<byte> output, ProtocolRange protocol, in HelloParameters parameters, HandshakeHello hello)
    {
        Span<byte> body = stackalloc byte[MessageBytesMax - PrefixBytes];
        int at = WriteFixed(body, HandshakeKind.Hello, protocol);
        body[at++] = (byte)hello.Purpose;
        body[at++] = (byte)hello.Role;
        BinaryPrimitives.WriteUInt64LittleEndian(body[at..], parameters.Nonce);
        BinaryPrimitives.WriteInt32LittleEndian(body[(at + 8)..], parameters.FrameBytesMax);
        BinaryPrimitives.WriteUInt32LittleEndian(body[(at + 12)..], hello.FeatureLevel);
        hello.ClusterId.TryWriteBytes(body[(at + 16)..], bigEndian: true, out _);
        hello.InstanceId.TryWriteBytes(body[(at + 32)..], bigEndian: true, out _);
        BinaryPrimitives.WriteUInt64LittleEndian(body[(at + 48)..], hello.OpenCounter);
        BinaryPrimitives.WriteUInt64LittleEndian(body[(at + 56)..], hello.LogEnd);
        at += 64;
        at += WriteName(body[at..], parameters.ExpectedNodeId, "expected node id");
        at += WriteName(body[at..], hello.NodeId, "node id");
        at += WriteName(body[at..], hello.ClusterName, "cluster name");
        at += WriteName(body[at..], EndPointText.Format(hello.AdvertisedEndPoint), "advertised address");
        WriteMessage(output, body[..at]);
    }

    public static void WriteAccepted(IBufferWriter<byte> output, ProtocolRange protocol)
    {
        Span<byte> body = stackalloc byte[FixedBytes];
        WriteFixed(body, HandshakeKind.Accepted, protocol);
        WriteMessage(output, body);
    }

    public static void WriteRefused(IBufferWriter<byte> output, ProtocolRange protocol, RefusalCode code, string text)
    {
        Span<byte> body = stackalloc byte[FixedBytes + 4 + RefusalTextBytesMax];
        int at = WriteFixed(body, HandshakeKind.Refused, protocol);
        BinaryPrimitives.WriteUInt16LittleEndian(body[at..], (ushort)code);
        Encoding.UTF8.GetEncoder().Convert(text, body.Slice(at + 4, RefusalTextBytesMax), flush: true, out _, out int textBytes, out _);
        BinaryPrimitives.WriteUInt16LittleEndian(body[(at + 2)..], (ushort)textBytes);
        WriteMessage(output, body[..(at + 4 + textBytes)]);
    }

    /// <summary>Takes the next message off the front. False: its end is not there yet.</summary>
    /// <exception cref="PeerProtocolException">It is none, or a hello of which no version is known here (then with <see cref="RefusalCode.ProtocolVersion"/>).</exception>
    public static bool TryRead(ref ReadOnlySequence<byte> buffer, ProtocolRange protocol, out HandshakeMessage message)
    {
        message = default;
        if (buffer.Length < FrameFormat.LengthBytes)
            return false;
        Span<byte> bytes = stackalloc byte[MessageBytesMax];
        buffer.Slice(0, FrameFormat.LengthBytes).CopyTo(bytes);
        uint length = BinaryPrimitives.ReadUInt32LittleEndian(bytes);
        if (length is < FixedBytes or > MessageBytesMax - PrefixBytes)
            throw Not($"length {length:N0}");
        int messageBytes = PrefixBytes + (int)length;
        if (buffer.Length < messageBytes)
            return false;

        bytes = bytes[..messageBytes];
        buffer.Slice(0, messageBytes).CopyTo(bytes);
        uint stored = BinaryPrimitives.ReadUInt32LittleEndian(bytes[4..]);
        uint computed = Checksum(bytes);
        if (stored != computed)
            throw Not($"CRC-32C stored {stored:x8}, computed {computed:x8}");
        if (BinaryPrimitives.ReadUInt32LittleEndian(bytes[PrefixBytes..]) != Magic)
            throw Not("no magic number");

        buffer = buffer.Slice(messageBytes);
        message = Parse(bytes[(PrefixBytes + 4)..], protocol);
        return true;
    }

    private static HandshakeMessage Parse(ReadOnlySpan<byte> body, ProtocolRange protocol)
    {
        HandshakeKind kind = (HandshakeKind)body[0];
        ProtocolRange remote = new(BinaryPrimitives.ReadUInt16LittleEndian(body[1..]), BinaryPrimitives.ReadUInt16LittleEndian(body[3..]));
        ReadOnlySpan<byte> rest = body[5..];

        // A refusal is read whatever its version: it is most likely about versions.
        if (kind == HandshakeKind.Refused && rest.Length >= 4)
        {
            int textBytes = Math.Min(BinaryPrimitives.ReadUInt16LittleEndian(rest[2..]), rest.Length - 4);
            RefusalCode code = (RefusalCode)BinaryPrimitives.ReadUInt16LittleEndian(rest);
            return new HandshakeMessage(kind, remote, default, null, code, Encoding.UTF8.GetString(rest.Slice(4, textBytes)));
        }

        if (!protocol.TryAgree(remote, out _))
        {
            throw new PeerProtocolException(
                RefusalCode.ProtocolVersion, $"No common protocol version: the refusing side speaks {protocol}, the refused one {remote}.");
        }

        return kind switch
        {
            HandshakeKind.Accepted when rest.IsEmpty => new HandshakeMessage(kind, remote, default, null, RefusalCode.None, ""),
            HandshakeKind.Hello => ParseHello(rest, remote),
            _ => throw Not($"message kind {(byte)kind} of {rest.Length} bytes"),
        };
    }

    private static HandshakeMessage ParseHello(ReadOnlySpan<byte> rest, ProtocolRange remote)
    {
        const int NumbersBytes = 66;
        if (rest.Length < NumbersBytes)
            throw Not("a hello that is too short");
        ReadOnlySpan<byte> numbers = rest[2..];
        ReadOnlySpan<byte> names = rest[NumbersBytes..];
        string expected = ReadName(ref names), nodeId = ReadName(ref names), clusterName = ReadName(ref names), address = ReadName(ref names);
        HandshakeHello hello = new()
        {
            Purpose = (HandshakePurpose)rest[0],
            Role = (PeerRole)rest[1],
            FeatureLevel = BinaryPrimitives.ReadUInt32LittleEndian(numbers[12..]),
            ClusterId = new Guid(numbers.Slice(16, 16), bigEndian: true),
            InstanceId = new Guid(numbers.Slice(32, 16), bigEndian: true),
            OpenCounter = BinaryPrimitives.ReadUInt64LittleEndian(numbers[48..]),
            LogEnd = BinaryPrimitives.ReadUInt64LittleEndian(numbers[56..]),
            NodeId = nodeId,
            ClusterName = clusterName,
            AdvertisedEndPoint = EndPointText.Parse(address),
        };
        HelloParameters parameters = new(
            BinaryPrimitives.ReadUInt64LittleEndian(numbers), BinaryPrimitives.ReadInt32LittleEndian(numbers[8..]), expected);
        if (!names.IsEmpty || nodeId.Length == 0 || parameters.FrameBytesMax < FrameFormat.FrameBytesMaxLowest)
            throw Not("a hello with bytes left over, without node id, or with too small frames");
        return new HandshakeMessage(HandshakeKind.Hello, remote, parameters, hello, RefusalCode.None, "");
    }

    private static int WriteFixed(Span<byte> body, HandshakeKind kind, ProtocolRange protocol)
    {
        BinaryPrimitives.WriteUInt32LittleEndian(body, Magic);
        body[4] = (byte)kind;
        BinaryPrimitives.WriteUInt16LittleEndian(body[5..], protocol.Lowest);
        BinaryPrimitives.WriteUInt16LittleEndian(body[7..], protocol.Highest);
        return FixedBytes;
    }

    private static void WriteMessage(IBufferWriter<byte> output, ReadOnlySpan<byte> body)
    {
        Span<byte> message = output.GetSpan(PrefixBytes + body.Length)[..(PrefixBytes + body.Length)];
        BinaryPrimitives.WriteInt32LittleEndian(message, body.Length);
        body.CopyTo(message[PrefixBytes..]);
        BinaryPrimitives.WriteUInt32LittleEndian(message[4..], Checksum(message));
        output.Advance(message.Length);
    }

    private static uint Checksum(ReadOnlySpan<byte> message) => Crc32C.Append(Crc32C.Compute(message[..4]), message[PrefixBytes..]);

    private static int WriteName(Span<byte> target, string name, string what)
    {
        int bytes = Encoding.UTF8.GetByteCount(name);
        if (bytes > HandshakeHello.NameBytesMax)
        {
            const int Limit = HandshakeHello.NameBytesMax;
            throw new LimitExceededException(
                nameof(HandshakeHello.NameBytesMax), Limit, bytes, $"A {what} of {bytes:N0} bytes; at most {Limit} go into a handshake.");
        }

        target[0] = (byte)bytes;
        return 1 + Encoding.UTF8.GetBytes(name, target[1..]);
    }

    private static string ReadName(ref ReadOnlySpan<byte> rest)
    {
        if (rest.IsEmpty || rest.Length < 1 + rest[0])
            throw Not("a name that is cut off");
        ReadOnlySpan<byte> name = rest.Slice(1, rest[0]);
        rest = rest[(1 + name.Length)..];
        try
        {
            return s_strictUtf8.GetString(name);
        }
        catch (DecoderFallbackException)
        {
            throw Not("a name that is not UTF-8");
        }
    }

    private static PeerProtocolException Not(string found) => new(RefusalCode.NotAPeer, $"Not a peer's handshake: {found}.");
}

internal enum HandshakeKind : byte
{
    None = 0,
    Hello = 1,
    Accepted = 2,
    Refused = 3,
}

/// <summary>The part of a hello that belongs to the connection.</summary>
internal readonly record struct HelloParameters(ulong Nonce, int FrameBytesMax, string ExpectedNodeId);

/// <summary>One message of a handshake; the hello's parts, or the refusal's.</summary>
internal readonly record struct HandshakeMessage(
    HandshakeKind Kind, ProtocolRange Protocol, HelloParameters Parameters, HandshakeHello? Hello, RefusalCode Code, string Text);
