using ShardForge.Storage.Lsm.Compaction;
using ShardForge.Storage.Lsm.Manifest;
using ShardForge.Storage.Lsm.Reads;

namespace ShardForge.Storage.Lsm;

/// <summary>One compaction: its merge, in parts where workers are free, and the edit that makes it count.</summary>
internal sealed partial class LsmEngine
{
    /// <summary>Input of one merge of a range that was asked for, in tables.</summary>
    private const long ManualPieceTables = 8;

    private void RunParts(CompactionJob job)
    {
        for (int index = 1; index < job.Parts.Length; index++)
        {
            CompactionPart part = job.Parts[index];
            bool started;
            lock (_gate)
                started = StartJobLocked(() => RunOtherPart(job, part), urgent: false);
            if (started)
                continue;

            // Closed or failed meanwhile: the part ends before it began.
            job.Fail(new OperationCanceledException(_stop.Token));
            Invariant.Require(!job.EndPart());
        }

        RunPart(job, job.Parts[0]);
    }

    private void RunOtherPart(CompactionJob job, CompactionPart part)
    {
        try
        {
            RunPart(job, part);
        }
        catch (Exception error)
        {
            OnJobFailed(error);
        }
        finally
        {
            EndJob();
        }
    }

    private void RunPart(CompactionJob job, CompactionPart part)
    {
        try
        {
            job.Stop.ThrowIfCancellationRequested();
            if (!job.Pick.IsMove)
                Merge(job, part);
        }
        catch (Exception error)
        {
            job.Fail(error);
        }

        if (job.EndPart())
            Finish(job);
    }

    /// <summary>All parts have ended.</summary>
    private void Finish(CompactionJob job)
    {
        long bytes = 0;
        try
        {
            if (job.Failure is null)
                bytes = Install(job);
        }
        catch (Exception error)
        {
            job.Fail(error);
        }

        if (job.Failure is { } failure)
        {
            foreach (CompactionPart part in job.Parts)
                DeleteOutputs(part.Edit);

            // Before it is taken out: a full disk or a failure has to be known to whoever schedules the next one.
            if (!(failure is OperationCanceledException && job.Manual is { Stop.IsCancellationRequested: true }))
                OnJobFailed(failure);
            EndCompaction(job);
            return;
        }

        if (job.Pick.IsMove)
            _compactionCounters.AddMove();
        else
            _compactionCounters.AddMerge(job.Pick.OutputLevel, job.Pick.Bytes, bytes);
        _counters.AddCompaction(bytes);
        EndCompaction(job);
        _counters.AddDiskBytes(_versions.RollIfLong());
        OnProgress();
    }

    private long Install(CompactionJob job)
    {
        VersionEdit edit = new();
        long bytes = 0;
        foreach (CompactionInput input in job.Pick.Inputs)
        {
            foreach (TableFile table in input.Tables)
            {
                edit.Removed.Add((input.Level, table.Number));
                if (job.Pick.IsMove)
                    edit.Added.Add((job.Pick.OutputLevel, table.Number, table.Summary));
            }
        }

        foreach (CompactionPart part in job.Parts)
        {
            edit.Added.AddRange(part.Edit.Added);
            bytes += part.BytesWritten;
        }

        if (bytes > 0)
            _fileSystem.FlushDirectory(_files.Directory);
        _counters.AddDiskBytes(_versions.Apply(edit, InstallCompacted));
        return bytes;
    }

    private void Merge(CompactionJob job, CompactionPart part)
    {
        CompactionPick pick = job.Pick;
        List<EntryCursor> cursors = [];
        List<RangeTombstone> tombstones = [];
        foreach (CompactionInput input in pick.Inputs)
        {
            // Tables of level 0 each for itself: they may overlap.
            TableFile[][] levels = input.Level == 0 ? [input.Tables] : [[], input.Tables];
            ReadState.AddTableCursors(cursors, levels, fillCache: false);
            foreach (TableFile table in input.Tables)
            {
                if (table.HasTombstones)
                    tombstones.AddRange(table.Reader.Tombstones);
            }
        }

        using MergeCursor entries = new(cursors.ToArray());

        // The filter before the snapshots, and these after the inputs were chosen: one that is opened later sees all that the filter read, and all of the inputs.
        ICompactionFilter? filter = BeginFilter(pick, job.Version, out ulong filterSequence);
        ulong[] snapshots = _snapshots.ToArray();
        MergeTask task = new()
        {
            Snapshots = snapshots,
            Deeper = pick.Older,
            DropsDeletes = true,
            ZeroesSequences = pick.OutputLevel > 0,
            TableBytes = _options.TableBytes,
            VersionSuffixBytes = SuffixBytes,
            Filter = snapshots.Length > 0 && snapshots[0] < filterSequence ? null : filter,
            Yield = _shared.Workers.RunUrgent,
            Start = part.Start,
            End = part.End,
        };
        WriteTables(task, entries, RangeTombstoneSet.Build(tombstones), part.Edit, pick.OutputLevel, written =>
        {
            part.BytesWritten += written;
            _counters.AddDiskBytes(written);
            _shared.RateLimit.Acquire(written, _shared.Workers.RunUrgent, job.Stop);
        }, job.Stop);
    }

    /// <summary>Asks the owner what may go.</summary>
    /// <param name="pick">What is merged.</param>
    /// <param name="version">What is durable.</param>
    /// <param name="sequence">Of the newest entry that the answer may rest on.</param>
    private ICompactionFilter? BeginFilter(CompactionPick pick, LsmVersion version, out ulong sequence)
    {
        sequence = 0;
        if (_context.CompactionFilter is not { } source)
            return null;
        DurableReader reader = new(version);
        ICompactionFilter? filter = source.Begin(new CompactionScope(pick.Range, SuffixBytes, reader.TryGet));
        sequence = reader.NewestSequence;
        return filter;
    }

    private void InstallCompacted(LsmVersion version)
    {
        ReadState? old;
        lock (_gate)
            old = InstallStateLocked();
        old?.Release();
        version.Release();
    }
}
