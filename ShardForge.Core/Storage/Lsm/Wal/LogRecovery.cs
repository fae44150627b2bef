using ShardForge.Common;

namespace ShardForge.Storage.Lsm.Wal;

/// <summary>Reads the logs that a crash or a close left, in order, and tells torn tails from damage (<see cref="LogFormat"/>).</summary>
internal sealed class LogRecovery(IFileSystem files, string directory)
{
    /// <summary>Called for each batch; its payload lives until the call returns.</summary>
    /// <returns>How many operations it has.</returns>
    public delegate int Replay(ulong sequence, ReadOnlySpan<byte> payload);

    /// <summary>Replays all batches that count.</summary>
    /// <param name="logNumbers">Ascending.</param>
    /// <param name="nextSequence">Of the first batch: the tables have all before it.</param>
    /// <param name="cleanLog">Where the last log ended at a clean close; null: unknown.</param>
    /// <param name="replay">Gets the batches in their order.</param>
    public void Run(IReadOnlyList<ulong> logNumbers, ulong nextSequence, (ulong Number, long End)? cleanLog, Replay replay)
    {
        for (int index = 0; index < logNumbers.Count; index++)
        {
            ulong number = logNumbers[index];
            string path = Path.Combine(directory, LogFormat.FileName(number));
            byte[] bytes = ReadAll(path);
            (long end, bool hasGap) = ReplayOne(path, bytes, number, ref nextSequence, replay);
            if (cleanLog is { } clean && clean.Number == number && end < clean.End)
                throw new CorruptionException(path, end, $"valid records end here, and there were {clean.End:N0} bytes when it was closed.");
            ThrowIfPromised(path, bytes, number, end);
            if (!hasGap)
                continue;
            ThrowIfPromisedLater(path, end, nextSequence, logNumbers, index);
            return;
        }
    }

    /// <returns>Where the valid records end, and whether one was valid but did not follow.</returns>
    private static (long End, bool HasGap) ReplayOne(string path, byte[] bytes, ulong number, ref ulong nextSequence, Replay replay)
    {
        if (!LogFormat.TryReadHeader(path, bytes, number))
            return (0, false);
        long offset = LogFormat.HeaderBytes;
        while (LogFormat.TryReadRecord(bytes, number, offset, out LogRecord record))
        {
            // Written before tables were taken in under this number; it says nothing that they do not.
            if (record.Kind == LogRecordKind.Promise && record.Sequence < nextSequence)
            {
                offset += LogFormat.RecordBytes(record.Payload.Length);
                continue;
            }

            // What lies between was lost with the end of an earlier log.
            if (record.Sequence != nextSequence)
                return (offset, true);
            if (record.Kind == LogRecordKind.Batch)
                nextSequence += (ulong)replay(record.Sequence, record.Payload);
            offset += LogFormat.RecordBytes(record.Payload.Length);
        }

        return (offset, false);
    }

    private static void ThrowIfPromised(string path, byte[] bytes, ulong number, long end)
    {
        for (long later = Math.Max(LogFormat.HeaderBytes, end & ~7L); later < bytes.Length; later += 8)
        {
            if (LogFormat.TryReadRecord(bytes, number, later, out LogRecord record) && record.Promise > end)
                throw new CorruptionException(path, end, $"no valid record is here, but the one at {later:N0} says that all below {record.Promise:N0} was durable.");
        }
    }

    /// <summary>A gap in the sequence numbers: if this log or a later one promises anything, all before it was durable.</summary>
    private void ThrowIfPromisedLater(string path, long end, ulong nextSequence, IReadOnlyList<ulong> logNumbers, int index)
    {
        for (int laterIndex = index; laterIndex < logNumbers.Count; laterIndex++)
        {
            ulong number = logNumbers[laterIndex];
            byte[] bytes = ReadAll(Path.Combine(directory, LogFormat.FileName(number)));
            for (long later = LogFormat.HeaderBytes; later < bytes.Length; later += 8)
            {
                if (LogFormat.TryReadRecord(bytes, number, later, out LogRecord record) && record.Promise > 0)
                    throw new CorruptionException(path, end, $"the record here does not follow: writes from {nextSequence} on are missing, and log {number} says that they were durable.");
            }
        }
    }

    private byte[] ReadAll(string path)
    {
        using IFile file = files.Open(path, FileOpenMode.Read);
        if (file.Length > Array.MaxLength)
            throw new CorruptionException(path, 0, $"{file.Length:N0} bytes are more than any log has.");
        byte[] bytes = new byte[file.Length];
        int read = file.Read(bytes, 0);
        return read == bytes.Length ? bytes : bytes[..read];
    }
}
