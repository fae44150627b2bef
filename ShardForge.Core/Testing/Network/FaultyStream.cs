using System.Buffers;
using System.Buffers.Binary;
using System.IO.Pipelines;
using ShardForge.Network;

namespace ShardForge.Testing.Network;

/// <summary>Carries one direction of a connection, frame by frame, and does to it what the faults say.</summary>
/// <remarks>It knows of a frame only where it ends (the length in its first four bytes) and whether it is part of the handshake. Frames wait
/// in order: while some are delayed, later ones line up behind them.
/// Threads: a reading loop and, while frames are delayed, one that delivers them; only one of the two writes at a time.</remarks>
internal sealed class FaultyStream(NetworkFaults faults, int from, int to, PipeReader source, PipeWriter target, CancellationToken ended)
{
    // Longer is no frame: the bytes are not ours to understand and go on as they are.
    private const int FrameBytesMax = 16 * 1024 * 1024;

    private readonly Queue<(byte[] Frame, long Due)> _delayed = new();
    private Task _delivering = Task.CompletedTask;
    private bool _isDelivering;

    /// <summary>Never fails: an error of either side ends both.</summary>
    public async Task RunAsync()
    {
        Exception? failure = null;
        try
        {
            while (await CarryAsync().ConfigureAwait(false))
            {
            }

            await _delivering.ConfigureAwait(false);

            // The end of a connection is a packet too: behind a blocked direction nobody learns of it.
            await faults.WaitUntilOpenAsync(from, to, ended).ConfigureAwait(false);
        }
        catch (Exception error)
        {
            failure = error as IOException ?? new IOException("The connection was cut.", error);
            await WaitForEndAsync().ConfigureAwait(false);
        }

        await source.CompleteAsync(failure).ConfigureAwait(false);
        await target.CompleteAsync(failure).ConfigureAwait(false);
    }

    private async Task WaitForEndAsync()
    {
        try
        {
            await faults.WaitUntilOpenAsync(from, to, ended).ConfigureAwait(false);
            await _delivering.ConfigureAwait(false);
        }
        catch (Exception error) when (error is IOException or OperationCanceledException or ObjectDisposedException or InvalidOperationException)
        {
            // Ended while it was held.
        }
    }

    /// <returns>False: that was the end.</returns>
    private async ValueTask<bool> CarryAsync()
    {
        ReadResult result = await source.ReadAsync(CancellationToken.None).ConfigureAwait(false);
        ReadOnlySequence<byte> buffer = result.Buffer;
        if (result.IsCanceled)
        {
            source.AdvanceTo(buffer.End);
            return false;
        }

        SequencePosition wholeEnd = result.IsCompleted ? buffer.End : EndOfFrames(buffer);
        ReadOnlySequence<byte> whole = buffer.Slice(0, wholeEnd);
        bool flushed = true;
        if (!whole.IsEmpty)
        {
            if (!faults.IsActive && !Volatile.Read(ref _isDelivering))
                flushed = await WriteAsync(whole).ConfigureAwait(false);
            else
                flushed = await CarryEachAsync(whole).ConfigureAwait(false);
        }

        source.AdvanceTo(wholeEnd, buffer.End);
        return flushed && !result.IsCompleted;
    }

    private async ValueTask<bool> CarryEachAsync(ReadOnlySequence<byte> frames)
    {
        while (!frames.IsEmpty)
        {
            long length = Math.Min(FrameLength(frames) ?? frames.Length, frames.Length);
            ReadOnlySequence<byte> frame = frames.Slice(0, length);
            frames = frames.Slice(length);
            await faults.WaitUntilOpenAsync(from, to, ended).ConfigureAwait(false);
            int copies = IsHandshake(frame) ? 1 : faults.NextCopies();
            TimeSpan delay = faults.Delay;
            for (int copy = 0; copy < copies; copy++)
            {
                if (delay > TimeSpan.Zero || Volatile.Read(ref _isDelivering))
                    DeliverLater(frame.ToArray(), delay);
                else if (!await WriteAsync(frame).ConfigureAwait(false))
                    return false;
            }
        }

        return true;
    }

    private void DeliverLater(byte[] frame, TimeSpan delay)
    {
        TimeProvider time = faults.TimeProvider;
        long due = time.GetTimestamp() + (long)(delay.TotalSeconds * time.TimestampFrequency);
        lock (_delayed)
        {
            _delayed.Enqueue((frame, due));
            if (_isDelivering)
            {
                if (_delivering.IsCompleted)
                    throw new IOException("A delayed frame could not be delivered.");
                return;
            }

            Volatile.Write(ref _isDelivering, true);
            _delivering = DeliverAsync();
        }
    }

    private async Task DeliverAsync()
    {
        await Task.CompletedTask.ConfigureAwait(ConfigureAwaitOptions.ForceYielding);
        TimeProvider time = faults.TimeProvider;
        while (true)
        {
            byte[] frame;
            long due;
            lock (_delayed)
            {
                // Whoever finds it off writes himself, or starts this again; whoever finds it on lines up. So no frame is passed or left behind.
                if (!_delayed.TryDequeue(out (byte[] Frame, long Due) next))
                {
                    Volatile.Write(ref _isDelivering, false);
                    return;
                }

                (frame, due) = next;
            }

            TimeSpan wait = time.GetElapsedTime(time.GetTimestamp(), due);
            if (wait > TimeSpan.Zero)
                await Task.Delay(wait, time, ended).ConfigureAwait(false);
            await faults.WaitUntilOpenAsync(from, to, ended).ConfigureAwait(false);
            if (!await WriteAsync(new ReadOnlySequence<byte>(frame)).ConfigureAwait(false))
                return;
        }
    }

    private async ValueTask<bool> WriteAsync(ReadOnlySequence<byte> bytes)
    {
        foreach (ReadOnlyMemory<byte> segment in bytes)
            target.Write(segment.Span);
        FlushResult result = await target.FlushAsync(CancellationToken.None).ConfigureAwait(false);
        return !result.IsCompleted && !result.IsCanceled;
    }

    private static SequencePosition EndOfFrames(ReadOnlySequence<byte> buffer)
    {
        ReadOnlySequence<byte> rest = buffer;
        while (FrameLength(rest) is long length && length <= rest.Length)
            rest = rest.Slice(length);
        return rest.Start;
    }

    /// <summary>Null: its length is not there yet.</summary>
    private static long? FrameLength(in ReadOnlySequence<byte> buffer)
    {
        if (buffer.Length < FrameFormat.LengthBytes)
            return null;
        Span<byte> bytes = stackalloc byte[FrameFormat.LengthBytes];
        buffer.Slice(0, bytes.Length).CopyTo(bytes);
        uint length = BinaryPrimitives.ReadUInt32LittleEndian(bytes);
        return length <= FrameBytesMax ? FrameFormat.PrefixBytes + length : buffer.Length;
    }

    private static bool IsHandshake(in ReadOnlySequence<byte> frame)
    {
        if (frame.Length < FrameFormat.PrefixBytes + sizeof(uint))
            return false;
        Span<byte> bytes = stackalloc byte[sizeof(uint)];
        frame.Slice(FrameFormat.PrefixBytes, bytes.Length).CopyTo(bytes);
        return BinaryPrimitives.ReadUInt32LittleEndian(bytes) == HandshakeFormat.Magic;
    }
}
