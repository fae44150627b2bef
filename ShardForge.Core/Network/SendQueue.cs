namespace ShardForge.Network;

/// <summary>What waits to be written to one connection, and the order in which it goes.</summary>
/// <remarks>A decision without I/O: the connection locks around every call and writes what it is given.
/// Order: the most urgent priority first, but after <see cref="FairnessBytes"/> a less urgent one that waits gets a frame. Within a priority,
/// a large message gives way to small ones after each fragment, for at most a frame's worth of them; large ones go one after the other.
/// Invariants: <see cref="Bytes"/> and <see cref="Count"/> are the payloads and messages not yet handed out whole; at most one message per priority is in
/// fragments.</remarks>
internal sealed class SendQueue(int frameBytesMax, long bytesMax, int countMax)
{
    /// <summary>What urgent priorities may write while a less urgent one waits; then it gets one frame.</summary>
    internal const int FairnessBytes = 1024 * 1024;

    private readonly Lane[] _lanes = [new(), new(), new(), new()];
    private int _sinceOthersBytes;
    private int _favoured;

    public long Bytes { get; private set; }

    public int Count { get; private set; }

    public bool IsEmpty => Count == 0;

    /// <summary>False: the queue is full, the message remains the caller's.</summary>
    public bool TryAdd(in OutgoingMessage message)
    {
        // A single message over the limit still goes if nothing else waits: the limit of a message is another one.
        int bytes = message.Payload?.Length ?? 0;
        if (Count >= countMax || (Bytes + bytes > bytesMax && Count > 0))
            return false;
        Add(message);
        return true;
    }

    /// <summary>Adds whatever the limits say: for the few frames whose number is bounded otherwise.</summary>
    public void Add(in OutgoingMessage message)
    {
        int bytes = message.Payload?.Length ?? 0;
        Lane lane = _lanes[(int)message.Priority];
        (FrameFormat.HeaderBytes + bytes <= frameBytesMax ? lane.Small : lane.Large).Enqueue(message);
        Bytes += bytes;
        Count++;
    }

    /// <summary>The next frame to write. False: nothing waits.</summary>
    public bool TryNext(out OutgoingFrame frame)
    {
        while (!IsEmpty)
        {
            if (!TryNextOf(PickLane(), out frame))
                continue;
            _sinceOthersBytes += FrameFormat.HeaderBytes + frame.PayloadBytes;
            return true;
        }

        frame = default;
        return false;
    }

    /// <summary>Drops all that waits.</summary>
    public void Clear()
    {
        foreach (Lane lane in _lanes)
        {
            while (lane.Small.TryDequeue(out OutgoingMessage message) || lane.Large.TryDequeue(out message))
                message.Payload?.Dispose();
            lane.SentOfLarge = 0;
        }

        Bytes = 0;
        Count = 0;
    }

    private int PickLane()
    {
        int first = 0;
        while (_lanes[first].IsEmpty)
            first++;
        if (_sinceOthersBytes < FairnessBytes)
            return first;

        _sinceOthersBytes = 0;
        for (int step = 1; step < _lanes.Length; step++)
        {
            int lane = (_favoured + step) % _lanes.Length;
            if (lane <= first || _lanes[lane].IsEmpty)
                continue;
            _favoured = lane;
            return lane;
        }

        return first;
    }

    /// <summary>False: what was next was given up by its sender before anything of it was written.</summary>
    private bool TryNextOf(int priority, out OutgoingFrame frame)
    {
        Lane lane = _lanes[priority];
        bool large = lane.Large.Count > 0 && (lane.Small.Count == 0 || lane.SmallSinceFragmentBytes >= frameBytesMax);
        return large ? TryNextFragment(lane, out frame) : TryNextSmall(lane, out frame);
    }

    private bool TryNextSmall(Lane lane, out OutgoingFrame frame)
    {
        OutgoingMessage message = lane.Small.Dequeue();
        int bytes = message.Payload?.Length ?? 0;
        Bytes -= bytes;
        Count--;
        frame = new OutgoingFrame(message, FrameFlags.Whole, 0, bytes);
        if (message.Call is { IsGivenUp: true })
        {
            message.Payload?.Dispose();
            return false;
        }

        lane.SmallSinceFragmentBytes += FrameFormat.HeaderBytes + bytes;
        return true;
    }

    private bool TryNextFragment(Lane lane, out OutgoingFrame frame)
    {
        OutgoingMessage message = lane.Large.Peek();
        int offset = lane.SentOfLarge, waitingBytes = message.Payload!.Length - offset;
        if (message.Call is { IsGivenUp: true })
        {
            frame = new OutgoingFrame(message, FrameFlags.Last | FrameFlags.Abandoned, offset, 0);
            Finish(lane, waitingBytes);
            if (offset > 0)
                return true;                                                     // its buffer goes with the frame
            message.Payload.Dispose();
            return false;
        }

        int room = frameBytesMax - FrameFormat.HeaderBytes - (offset == 0 ? FrameFormat.TotalBytes : 0);
        int bytes = Math.Min(room, waitingBytes);
        FrameFlags flags = (offset == 0 ? FrameFlags.First : FrameFlags.None) | (bytes == waitingBytes ? FrameFlags.Last : FrameFlags.None);
        Invariant.Check(flags != FrameFlags.Whole);
        frame = new OutgoingFrame(message, flags, offset, bytes);
        lane.SmallSinceFragmentBytes = 0;
        if (bytes == waitingBytes)
        {
            Finish(lane, bytes);
            return true;
        }

        lane.SentOfLarge += bytes;
        Bytes -= bytes;
        return true;
    }

    private void Finish(Lane lane, int bytes)
    {
        lane.Large.Dequeue();
        lane.SentOfLarge = 0;
        Bytes -= bytes;
        Count--;
    }

    private sealed class Lane
    {
        public readonly Queue<OutgoingMessage> Small = new();

        /// <summary>The first one is in fragments once <see cref="SentOfLarge"/> is above zero.</summary>
        public readonly Queue<OutgoingMessage> Large = new();

        public int SentOfLarge;
        public int SmallSinceFragmentBytes;

        public bool IsEmpty => Small.Count == 0 && Large.Count == 0;
    }
}

/// <summary>A message that waits to be written. Its payload is the queue's.</summary>
internal readonly record struct OutgoingMessage(
    FrameKind Kind, PeerPriority Priority, ushort Code, ulong Correlation, PeerBuffer? Payload, PeerCall? Call = null);

/// <summary>A frame to write. With its last flag the message's payload goes over to whoever took it.</summary>
internal readonly record struct OutgoingFrame(OutgoingMessage Message, FrameFlags Flags, int PayloadOffset, int PayloadBytes)
{
    public bool IsLast => (Flags & FrameFlags.Last) != FrameFlags.None;

    public bool IsAbandoned => (Flags & FrameFlags.Abandoned) != FrameFlags.None;

    /// <summary>Of a first fragment that is not the last: the message's length.</summary>
    public int? TotalBytes => Flags == FrameFlags.First ? Message.Payload!.Length : null;

    public ReadOnlySpan<byte> Payload => Message.Payload is null ? default : Message.Payload.Span.Slice(PayloadOffset, PayloadBytes);

    public int FrameBytes => FrameFormat.HeaderBytes + (TotalBytes is null ? 0 : FrameFormat.TotalBytes) + PayloadBytes;
}
