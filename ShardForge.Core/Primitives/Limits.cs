namespace ShardForge;

/// <summary>Upper bounds of everything that a caller can make grow. Each is a setting; what is over one is refused with <see cref="LimitExceededException"/>.</summary>
public sealed record Limits
{
    /// <summary>The defaults.</summary>
    public static Limits Default { get; } = new();

    /// <summary>Longest key, in bytes. Default 8 KiB. A bound of a range may be one byte longer.</summary>
    public int KeyBytesMax { get; init; } = 8 * 1024;

    /// <summary>Longest value, in bytes. Default 16 MiB.</summary>
    public int ValueBytesMax { get; init; } = 16 * 1024 * 1024;

    /// <summary>Largest transaction or batch: keys and values of its writes together, in bytes. Default 64 MiB.</summary>
    public int TransactionBytesMax { get; init; } = 64 * 1024 * 1024;

    /// <summary>Largest page of a scan that travels at once, in bytes (one entry may be larger). Default 256 KiB.</summary>
    public int ScanPageBytesMax { get; init; } = 256 * 1024;

    /// <summary>Writes of one shard that are proposed and not yet applied, in bytes. Over it: <see cref="OverloadedException"/>. Default 128 MiB.</summary>
    public long ProposalBytesMax { get; init; } = 128L * 1024 * 1024;

    /// <summary>Requests to one peer that wait for their answer. Over it: <see cref="OverloadedException"/>. Default 65,536.</summary>
    public int PeerRequestsMax { get; init; } = 65_536;

    /// <summary>Bytes queued to one peer and not yet handed to the operating system. Over it: <see cref="OverloadedException"/>. Default 256 MiB.</summary>
    public long PeerQueueBytesMax { get; init; } = 256L * 1024 * 1024;
}
