using System.Buffers;
using ShardForge.Storage.Lsm.Manifest;
using ShardForge.Storage.Lsm.Reads;

namespace ShardForge.Storage.Lsm.Compaction;

/// <summary>Reads single keys in the tables of a version: what a power cut would leave. The caller holds the version.</summary>
internal sealed class DurableReader(LsmVersion version)
{
    /// <summary>The newest sequence number of what was found so far: a snapshot below it sees something older.</summary>
    public ulong NewestSequence { get; private set; }

    public bool TryGet(ReadOnlySpan<byte> key, IBufferWriter<byte> value)
    {
        List<EntryCursor> cursors = [];
        ReadState.AddTableCursors(cursors, version.Levels, fillCache: true);
        using MergeCursor entries = new(cursors.ToArray());
        entries.Seek(key, EntryTrailer.Newest);
        if (!entries.IsValid || !entries.Key.SequenceEqual(key))
            return false;
        ulong sequence = EntryTrailer.Sequence(entries.Trailer);
        NewestSequence = Math.Max(NewestSequence, sequence);
        if (EntryTrailer.Kind(entries.Trailer) != EntryKind.Put || version.Tombstones.NewestOver(key, EntryTrailer.SequenceMax) > sequence)
            return false;
        value.Write(entries.Value);
        return true;
    }
}
