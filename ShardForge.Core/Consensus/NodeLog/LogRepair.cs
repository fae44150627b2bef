using Microsoft.Extensions.Logging;

namespace ShardForge.Consensus.NodeLog;

/// <summary>Makes a recovered log safe to go on with, before its first append. A crash in the middle leaves a log that recovers to the same.</summary>
/// <remarks>After a clean close there is nothing to do, and nothing is written.</remarks>
internal static class LogRepair
{
    public static void Apply(LogRecovery recovered, LogSegmentStore store, ILogger logger)
    {
        if (!recovered.HasEndFile)
        {
            // The last batch, as it was read: its pages may have been dropped by a failed flush and never reach the disk unless they are written again.
            LogSegment current = recovered.Segments[^1];
            if (recovered.Unpromised is { } last)
                current.File.Write(recovered.UnpromisedBytes, last.Offset);

            // R29: behind the end nothing of this life may come back. One batch was in flight, so it lies within the longest one.
            if (Zero(current, recovered.End.Offset) is > 0 and long bytes)
                NodeLogMessages.CutOff(logger, store.Directory, bytes, recovered.End.Offset, current.Number);
            if (recovered.Ready is not null)
                Zero(recovered.Ready, LogFormat.HeaderBytes);
            current.File.Flush();
        }

        for (int i = recovered.Surplus.Count - 1; i >= 0; i--)
            store.Free(recovered.Surplus[i]);
        recovered.Surplus.Clear();
        store.RemoveLeftovers();
    }

    // Returns how many bytes were looked at and not all zero.
    private static long Zero(LogSegment segment, long offset)
    {
        byte[] block = new byte[16 * LogFormat.BlockBytes];
        long end = Math.Min(segment.Bytes, offset + LogFormat.AlignUp(segment.BatchBytesMax));
        long zeroed = 0;
        for (; offset < end; offset += block.Length)
        {
            int bytes = (int)Math.Min(block.Length, end - offset);
            int read = segment.File.Read(block.AsSpan(0, bytes), offset);
            if (!block.AsSpan(0, read).ContainsAnyExcept((byte)0))
                continue;
            block.AsSpan().Clear();
            segment.File.Write(block.AsSpan(0, bytes), offset);
            zeroed += bytes;
        }

        if (zeroed > 0)
            segment.File.Flush();
        return zeroed;
    }
}
