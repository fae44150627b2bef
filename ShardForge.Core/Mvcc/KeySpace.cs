namespace ShardForge.Mvcc;

/// <summary>First byte of every engine key of a replica: what kind of thing lies there.</summary>
/// <remarks>
/// The numbers are for ever; gaps are left so that a space can be put between two others in key order. A split moves everything that lies
/// under a user key, so every space but the first is ordered by it. Reserved bytes are refused by a build that does not know them.
/// </remarks>
internal enum KeySpace : byte
{
    None = 0,

    /// <summary>What belongs to the replica and not to its keys: applied index, limit of history. See <c>ReplicaStateRecord</c>.</summary>
    ReplicaLocal = 0x10,

    /// <summary>Locks of undecided transactions, one per user key: <see cref="LockRecord"/>.</summary>
    Lock = 0x20,

    /// <summary>Marks, transaction records and results of requests: <see cref="OperationRecord"/> (R18).</summary>
    Operation = 0x30,

    /// <summary>Reserved for range tombstones of versions (R25): before the versions that they hide.</summary>
    VersionRangeTombstone = 0x3C,

    /// <summary>Versions of user keys: <see cref="VersionHeader"/>.</summary>
    Version = 0x40,

    /// <summary>Reserved for namespaces (R25): the spaces above again, behind a namespace id.</summary>
    Namespace = 0x80,
}
