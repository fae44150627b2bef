using System.Buffers;
using System.Buffers.Binary;

namespace ShardForge.Network;

/// <summary>Puts the fragments of messages together: at most one unfinished message per priority.</summary>
/// <remarks>Memory grows with what really came in, at most doubled, not with what a first fragment announces. One thread.</remarks>
internal sealed class MessageAssembler(int messageBytesMax) : IDisposable
{
    private readonly Part[] _parts = new Part[FrameFormat.PriorityCount];

    /// <summary>Takes one frame of a message. True: the message is whole, and its buffer is the caller's.</summary>
    /// <exception cref="PeerProtocolException">The fragment does not continue what is there, or the message is too large.</exception>
    public bool TryComplete(in FrameHeader header, in ReadOnlySequence<byte> payload, out PeerBuffer? message)
    {
        ref Part part = ref _parts[(int)header.Priority];
        message = null;
        if (header.IsFirst)
            return header.IsLast ? TakeWhole(header, payload, ref message) : Begin(header, payload, ref part);

        if (part.Buffer is null || part.Kind != header.Kind || part.Code != header.Code || part.Correlation != header.Correlation)
            throw new PeerProtocolException(RefusalCode.Corruption, $"A fragment of message {header.Correlation} continues nothing.");

        if (header.IsAbandoned)
        {
            part.Buffer.Dispose();
            part = default;
            return false;
        }

        Append(ref part, payload);
        if (!header.IsLast)
            return false;
        if (part.Buffer!.Length != part.TotalBytes)
            throw new PeerProtocolException(RefusalCode.Corruption, $"A message of {part.TotalBytes:N0} bytes ended after {part.Buffer.Length:N0}.");
        message = part.Buffer;
        part = default;
        return true;
    }

    public void Dispose()
    {
        foreach (ref Part part in _parts.AsSpan())
        {
            part.Buffer?.Dispose();
            part = default;
        }
    }

    private static bool TakeWhole(in FrameHeader header, in ReadOnlySequence<byte> payload, ref PeerBuffer? message)
    {
        if (header.IsAbandoned)
            throw new PeerProtocolException(RefusalCode.Corruption, "A whole message is marked as abandoned.");
        message = PeerBuffer.Copy(payload);
        return true;
    }

    private bool Begin(in FrameHeader header, in ReadOnlySequence<byte> payload, ref Part part)
    {
        if (part.Buffer is not null || header.IsAbandoned)
            throw new PeerProtocolException(RefusalCode.Corruption, $"Message {header.Correlation} begins within message {part.Correlation}.");
        if (payload.Length <= FrameFormat.TotalBytes)
            throw new PeerProtocolException(RefusalCode.Corruption, $"A first fragment of {payload.Length:N0} bytes.");

        Span<byte> start = stackalloc byte[FrameFormat.TotalBytes];
        payload.Slice(0, FrameFormat.TotalBytes).CopyTo(start);
        uint totalBytes = BinaryPrimitives.ReadUInt32LittleEndian(start);
        if (totalBytes > (uint)messageBytesMax)
            throw new PeerProtocolException(RefusalCode.Corruption, $"A message of {totalBytes:N0} bytes; the limit is {messageBytesMax:N0}.");

        part = new Part
        {
            Buffer = new PeerBuffer(checked((int)payload.Length)),
            Kind = header.Kind,
            Code = header.Code,
            Correlation = header.Correlation,
            TotalBytes = (int)totalBytes,
        };
        Append(ref part, payload.Slice(FrameFormat.TotalBytes));
        return false;
    }

    private static void Append(ref Part part, in ReadOnlySequence<byte> payload)
    {
        // An empty fragment would let a peer keep a message open for ever without sending any of it.
        if (payload.IsEmpty || part.Buffer!.Length + payload.Length > part.TotalBytes)
            throw new PeerProtocolException(RefusalCode.Corruption, $"A fragment of {payload.Length:N0} bytes in a message of {part.TotalBytes:N0}.");
        part.Buffer.Write(payload);
    }

    private struct Part
    {
        public PeerBuffer? Buffer;
        public FrameKind Kind;
        public ushort Code;
        public ulong Correlation;
        public int TotalBytes;
    }
}
