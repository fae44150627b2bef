namespace ShardForge.Storage.Lsm;

/// <summary>The removal of every key in [start, end) that was written before a sequence number.</summary>
internal readonly record struct RangeTombstone(byte[] Start, byte[] End, ulong Sequence);
