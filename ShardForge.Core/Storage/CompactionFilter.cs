using System.Buffers;

namespace ShardForge.Storage;

/// <summary>Lets the owner of an engine drop entries that nobody needs any more while compactions rewrite them (R28: versions below the limit of history).</summary>
/// <remarks>
/// Given by <see cref="StorageEngineContext.CompactionFilter"/>; used by the LSM engine's compactions, never by its flushes, and not by tables that only move.
/// <para><b>What may be decided on.</b> Only what the engine's last durable state already contains: <see cref="CompactionScope.TryGetDurable"/> reads that. A limit
/// that is only in memory could be gone after a crash while what was dropped because of it stays gone.</para>
/// <para><b>Snapshots.</b> A merge asks about entries that every open snapshot of the engine sees, and not at all while a snapshot is open that is older than
/// what the filter read: such a reader was promised by an older limit. All others are kept unasked.</para>
/// Threads: <see cref="Begin"/> is called on a worker, perhaps on several at once.
/// </remarks>
internal interface ICompactionFilterSource
{
    /// <summary>A merge, or an independent part of one, begins.</summary>
    /// <param name="scope">What it covers, and how to read the durable state; usable until the call returns.</param>
    /// <returns>Used by one thread, in key order, and then forgotten; null: nothing is to be dropped.</returns>
    ICompactionFilter? Begin(CompactionScope scope);
}

/// <summary>Decides about the entries of one merge.</summary>
internal interface ICompactionFilter
{
    /// <summary>
    /// Asked for each value that the merge would keep, in key order; deletes and range tombstones are the engine's own affair. Entries of a key group (the
    /// bytes before the version suffix) come newest version first, and everyone who sees one that is asked about also sees those asked about before. Not all
    /// of the group: newer versions may be in younger places, older ones in deeper ones.
    /// </summary>
    /// <param name="key">The whole key, version suffix included. Lives until the call returns, as does the value.</param>
    /// <param name="value">Starts with whatever header the owner writes.</param>
    /// <param name="isBottom">Nothing of the key's group lies deeper: a delete marker that is the owner's own hides nothing and may go.</param>
    CompactionVerdict Decide(ReadOnlySpan<byte> key, ReadOnlySpan<byte> value, bool isBottom);
}

/// <summary>What becomes of an entry.</summary>
internal enum CompactionVerdict
{
    Keep,

    /// <summary>It goes; where something of its group may lie deeper, a delete of this very key is left, so that an older value of it cannot come to light.</summary>
    Drop,

    /// <summary>It goes without a trace. The owner promises that this very key, suffix included, was written once only.</summary>
    DropUnique,
}

/// <summary>What a merge covers.</summary>
internal sealed class CompactionScope(KeyRange range, int versionSuffixBytes, CompactionScope.DurableRead tryGetDurable)
{
    /// <summary>Reads a key in what the manifest names.</summary>
    public delegate bool DurableRead(ReadOnlySpan<byte> key, IBufferWriter<byte> value);

    /// <summary>Every key of the merge is in it.</summary>
    public KeyRange Range => range;

    /// <summary>See <see cref="StorageEngineContext.VersionSuffixBytes"/>; as the directory was made with.</summary>
    public int VersionSuffixBytes => versionSuffixBytes;

    /// <summary>Reads a value in the engine's last durable state: what a power cut now would leave at least.</summary>
    public bool TryGetDurable(ReadOnlySpan<byte> key, IBufferWriter<byte> value) => tryGetDurable(key, value);
}
