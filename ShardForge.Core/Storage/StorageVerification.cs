namespace ShardForge.Storage;

/// <summary>A place in an engine's files that is not what was written.</summary>
/// <param name="Path">The file.</param>
/// <param name="Offset">Where in the file, in bytes.</param>
/// <param name="Reason">What is wrong there.</param>
public sealed record StorageDamage(string Path, long Offset, string Reason);

/// <summary>What <see cref="StorageEngines.VerifyAsync(string, CancellationToken)"/> found.</summary>
public sealed record StorageVerification
{
    /// <summary>Whether every file that counts is there and is what was written.</summary>
    public bool IsIntact => Damage.Count == 0;

    /// <summary>Everything that is not; in the order of the check: marker, manifest, tables, logs.</summary>
    public IReadOnlyList<StorageDamage> Damage { get; init; } = [];

    /// <summary>Files that were checked.</summary>
    public int Files { get; init; }

    /// <summary>Their bytes.</summary>
    public long Bytes { get; init; }

    /// <summary>Blocks of tables and records of logs whose checksums were right.</summary>
    public long Blocks { get; init; }

    /// <summary>Entries read in tables (values, deletes) and operations read in logs.</summary>
    public long Entries { get; init; }
}

/// <summary>What <see cref="StorageEngines.RepairAsync(string, string, CancellationToken)"/> saved.</summary>
public sealed record StorageRepair
{
    /// <summary>What was damaged; everything else was taken over.</summary>
    public IReadOnlyList<StorageDamage> Damage { get; init; } = [];

    /// <summary>Entries of tables that were taken over, deletes included.</summary>
    public long EntriesSaved { get; init; }

    /// <summary>Operations of logs that were taken over.</summary>
    public long OperationsSaved { get; init; }

    /// <summary>
    /// Whether it was known which tables counted. If not (the manifest is damaged), all tables that were there were merged by the age of their entries, and what
    /// compactions had replaced but not yet deleted may have come back.
    /// </summary>
    public bool ManifestWasIntact { get; init; }
}
