namespace ShardForge.Storage;

/// <summary>How data blocks are compressed.</summary>
public enum LsmCompression
{
    /// <summary>Not at all.</summary>
    None,

    /// <summary>LZ4, block by block, where it saves an eighth or more.</summary>
    Lz4,
}

/// <summary>How sorted runs are merged.</summary>
public enum LsmCompactionStyle
{
    /// <summary>Each level is one run, <see cref="LsmOptions.LevelMultiplier"/> times larger than the one above: least space, fewest runs to read, most rewriting.</summary>
    Leveled,

    /// <summary>As many runs of about one size as <see cref="LsmOptions.LevelZeroTables"/> says become one of the next size: least rewriting, most space and runs to read.</summary>
    Tiered,

    /// <summary>Neighbours in age are merged by their sizes, within a limit of runs and of space that overwritten data may take: between the two.</summary>
    Universal,
}

/// <summary>Settings of the <c>lsm</c> engine. None but <see cref="TimeToLive"/> is stored: a directory may be opened with others later.</summary>
public sealed record LsmOptions
{
    /// <summary>Size at which a memtable is written to a table, in bytes; smaller where many engines share the node's budget. 4 KiB to 1 GiB, default 64 MiB.</summary>
    public long MemtableBytes { get; init; } = 64L * 1024 * 1024;

    /// <summary>Memtables that may wait for their flush before writers wait. 1 to 16, default 2.</summary>
    public int ImmutableMemtablesMax { get; init; } = 2;

    /// <summary>Size of a data block before compression, in bytes. 128 bytes to 4 MiB, default 4 KiB.</summary>
    public int BlockBytes { get; init; } = 4096;

    /// <summary>Entries between two restart points of a block. 1 to 255, default 8.</summary>
    public int RestartInterval { get; init; } = 8;

    /// <summary>Bits per key of the tables' filters; 0: no filters. At most 32, default 10.</summary>
    public int BloomBitsPerKey { get; init; } = 10;

    /// <summary>Compression of data and index blocks. Default LZ4.</summary>
    public LsmCompression Compression { get; init; } = LsmCompression.Lz4;

    /// <summary>How sorted runs are merged. Default leveled.</summary>
    public LsmCompactionStyle CompactionStyle { get; init; } = LsmCompactionStyle.Leveled;

    /// <summary>Universal compaction: by how much a run may be larger than all younger ones together to be merged with them, in percent. 0 to 1,000, default 1.</summary>
    public int UniversalSizeRatioPercent { get; init; } = 1;

    /// <summary>Universal compaction: bytes of all younger runs, in percent of the oldest one, at which all are merged. 10 to 10,000, default 200.</summary>
    public int UniversalSpaceAmplificationPercent { get; init; } = 200;

    /// <summary>Tables in level 0 that start a compaction; of the other styles, sorted runs (universal: in all; tiered: of one size). 1 to 100, default 4; with tiered and universal at least 2.</summary>
    public int LevelZeroTables { get; init; } = 4;

    /// <summary>Tables in level 0 from which on writes pause now and then. Above <see cref="LevelZeroTables"/>, default 20.</summary>
    public int LevelZeroSlowdownTables { get; init; } = 20;

    /// <summary>Tables in level 0 at which writes wait until there are fewer. Above <see cref="LevelZeroSlowdownTables"/>, default 36.</summary>
    public int LevelZeroStopTables { get; init; } = 36;

    /// <summary>Size of level 1, in bytes. At least 4 KiB, default 256 MiB.</summary>
    public long LevelBaseBytes { get; init; } = 256L * 1024 * 1024;

    /// <summary>How much larger each next level is. 2 to 100, default 10.</summary>
    public int LevelMultiplier { get; init; } = 10;

    /// <summary>Size of a table that a compaction writes, in bytes. 1 KiB to 4 GiB, default 64 MiB.</summary>
    public long TableBytes { get; init; } = 64L * 1024 * 1024;

    /// <summary>
    /// How long values live after they were put; null (the default): until they are overwritten or deleted. Expired values are gone for readers at once and leave the disk with
    /// the next compaction. For engines of their own only, not for those of a node; a directory keeps to what it was made with, with or without. At least 1 ms.
    /// </summary>
    public TimeSpan? TimeToLive { get; init; }

    internal const int LevelCount = 7;

    /// <summary>Throws for what cannot work.</summary>
    internal void Validate()
    {
        Check(nameof(MemtableBytes), MemtableBytes, 4096, 1L << 30);
        Check(nameof(ImmutableMemtablesMax), ImmutableMemtablesMax, 1, 16);
        Check(nameof(BlockBytes), BlockBytes, 128, 4 * 1024 * 1024);
        Check(nameof(RestartInterval), RestartInterval, 1, 255);
        Check(nameof(BloomBitsPerKey), BloomBitsPerKey, 0, 32);
        if (CompactionStyle is not (LsmCompactionStyle.Leveled or LsmCompactionStyle.Tiered or LsmCompactionStyle.Universal))
            throw new ConfigurationException(Setting(nameof(CompactionStyle)), $"{Setting(nameof(CompactionStyle))} is {(int)CompactionStyle}; allowed are Leveled, Tiered and Universal.");
        Check(nameof(UniversalSizeRatioPercent), UniversalSizeRatioPercent, 0, 1000);
        Check(nameof(UniversalSpaceAmplificationPercent), UniversalSpaceAmplificationPercent, 10, 10_000);
        if (TimeToLive is { } timeToLive && timeToLive < TimeSpan.FromMilliseconds(1))
            throw new ConfigurationException(Setting(nameof(TimeToLive)), $"{Setting(nameof(TimeToLive))} is {timeToLive}; it must be at least 1 ms.");
        Check(nameof(LevelZeroTables), LevelZeroTables, CompactionStyle == LsmCompactionStyle.Leveled ? 1 : 2, 100);
        Check(nameof(LevelZeroSlowdownTables), LevelZeroSlowdownTables, LevelZeroTables + 1, 10_000);
        Check(nameof(LevelZeroStopTables), LevelZeroStopTables, LevelZeroSlowdownTables + 1, 10_000);
        Check(nameof(LevelBaseBytes), LevelBaseBytes, 4096, 1L << 50);
        Check(nameof(LevelMultiplier), LevelMultiplier, 2, 100);
        Check(nameof(TableBytes), TableBytes, 1024, 4L << 30);
        if (Compression is not (LsmCompression.None or LsmCompression.Lz4))
            throw new ConfigurationException(Setting(nameof(Compression)), $"{Setting(nameof(Compression))} is {(int)Compression}; allowed are None and Lz4.");
    }

    private static string Setting(string name) => $"{nameof(LsmOptions)}.{name}";

    private static void Check(string name, long value, long min, long max)
    {
        if (value < min || value > max)
            throw new ConfigurationException(Setting(name), $"{Setting(name)} is {value:N0}; allowed are {min:N0} to {max:N0}.");
    }
}
