using ShardForge.Common;
using ShardForge.Storage.Lsm.Wal;

namespace ShardForge.Storage.Lsm.Verify;

/// <summary>Reads the write-ahead logs of a closed directory up to the first damage, as an open would.</summary>
internal sealed class LogCheck(ClosedDirectory directory, List<StorageDamage> damage, CancellationToken cancellationToken)
{
    public long Records { get; private set; }

    public long Operations { get; private set; }

    /// <param name="lastSequence">Of the newest write that is in a table.</param>
    /// <param name="batch">Gets each batch; null: nobody wants them.</param>
    public void Run(ulong lastSequence, Action<StorageBatch>? batch)
    {
        if (directory.Manifest is not null)
        {
            (ulong, long)? clean = directory.Clean is { LogNumber: > 0 } end ? (end.LogNumber, end.LogEnd) : null;
            Replay(directory.Logs, lastSequence + 1, clean, batch);
            return;
        }

        // Nobody knows where the tables end; a log says itself where it begins, and what is in tables already is left out.
        foreach (ulong number in directory.Logs)
        {
            if (TryReadFirstSequence(number, out ulong first))
                Replay([number], first, clean: null, batch, lastSequence);
        }
    }

    private void Replay(IReadOnlyList<ulong> logs, ulong nextSequence, (ulong, long)? clean, Action<StorageBatch>? batch, ulong lastSequence = 0)
    {
        try
        {
            new LogRecovery(directory.Files, directory.Path).Run(logs, nextSequence, clean, (sequence, payload) =>
            {
                cancellationToken.ThrowIfCancellationRequested();
                StorageBatch operations = new();
                operations.Append(payload);
                if (sequence > lastSequence)
                    batch?.Invoke(operations);
                Records++;
                Operations += operations.Count;
                return operations.Count;
            });
        }
        catch (CorruptionException error)
        {
            damage.Add(new(error.Path, error.Offset, error.Message));
        }
        catch (InvalidDataException error)
        {
            damage.Add(new(directory.LogPath(logs[0]), 0, error.Message));
        }
    }

    private bool TryReadFirstSequence(ulong number, out ulong sequence)
    {
        using IFile file = directory.Files.Open(directory.LogPath(number), FileOpenMode.Read);
        byte[] bytes = new byte[(int)Math.Min(file.Length, int.MaxValue / 2)];
        bool found = LogFormat.TryReadRecord(bytes.AsSpan(0, file.Read(bytes, 0)), number, LogFormat.HeaderBytes, out LogRecord record);
        sequence = record.Sequence;
        return found;
    }
}
