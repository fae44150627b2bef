namespace ShardForge.Storage;

/// <summary>How far a compaction that was asked for has come.</summary>
/// <param name="BytesDone">Bytes of tables that were merged so far.</param>
/// <param name="BytesTotal">About what there is to merge in all; equal to <paramref name="BytesDone"/> in the last report.</param>
public readonly record struct StorageCompactionProgress(long BytesDone, long BytesTotal);
