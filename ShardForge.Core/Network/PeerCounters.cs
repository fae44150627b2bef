using System.Diagnostics;

namespace ShardForge.Network;

/// <summary>What happened on the connections with one peer. Written by their loops, read by any thread.</summary>
internal sealed class PeerCounters
{
    private const int SmoothingShift = 3;
    private long _lastHeard, _roundTripTicks, _bytesSent, _bytesReceived, _framesSent, _framesReceived, _flushes, _duplicates, _connects;

    /// <summary>A value of <see cref="Stopwatch.GetTimestamp"/>; 0: never.</summary>
    public long LastHeard => Volatile.Read(ref _lastHeard);

    public void Heard(int frames, long bytes)
    {
        if (frames > 0)
            Volatile.Write(ref _lastHeard, Stopwatch.GetTimestamp());
        Interlocked.Add(ref _framesReceived, frames);
        Interlocked.Add(ref _bytesReceived, bytes);
    }

    public void Sent(int frames, long bytes)
    {
        Interlocked.Add(ref _framesSent, frames);
        Interlocked.Add(ref _bytesSent, bytes);
        Interlocked.Increment(ref _flushes);
    }

    public void DroppedDuplicate() => Interlocked.Increment(ref _duplicates);

    public void Connected() => Interlocked.Increment(ref _connects);

    public void RoundTrip(TimeSpan measured)
    {
        long old = Volatile.Read(ref _roundTripTicks);
        long smoothed = old == 0 ? measured.Ticks : old + ((measured.Ticks - old) >> SmoothingShift);
        Volatile.Write(ref _roundTripTicks, Math.Max(smoothed, 1));
    }

    public PeerLinkStatistics ToStatistics(int requestsPending, long queuedBytes) => new()
    {
        RoundTrip = new TimeSpan(Volatile.Read(ref _roundTripTicks)),
        BytesSent = Volatile.Read(ref _bytesSent),
        BytesReceived = Volatile.Read(ref _bytesReceived),
        FramesSent = Volatile.Read(ref _framesSent),
        FramesReceived = Volatile.Read(ref _framesReceived),
        Flushes = Volatile.Read(ref _flushes),
        DuplicatesDropped = Volatile.Read(ref _duplicates),
        Connects = Volatile.Read(ref _connects),
        RequestsPending = requestsPending,
        QueuedBytes = queuedBytes,
    };
}
