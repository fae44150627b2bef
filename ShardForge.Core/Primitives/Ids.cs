namespace ShardForge;

/// <summary>Number of a shard group. 0 is the metadata group; shards count from 1.</summary>
internal readonly record struct ShardId(int Value) : IComparable<ShardId>
{
    public static ShardId Metadata => default;
    public int CompareTo(ShardId other) => Value.CompareTo(other.Value);
    public override string ToString() => $"{Value:D4}";
}

/// <summary>A replica of a group on a node. Unique in the cluster, never used again (R29), 0 is none.</summary>
internal readonly record struct ReplicaId(ulong Value) : IComparable<ReplicaId>
{
    public bool IsNone => Value == 0;
    public int CompareTo(ReplicaId other) => Value.CompareTo(other.Value);
    public override string ToString() => $"r{Value}";
}

/// <summary>Term of a Raft group.</summary>
internal readonly record struct Term(long Value) : IComparable<Term>
{
    public int CompareTo(Term other) => Value.CompareTo(other.Value);
    public static bool operator <(Term left, Term right) => left.Value < right.Value;
    public static bool operator >(Term left, Term right) => left.Value > right.Value;
    public static bool operator <=(Term left, Term right) => left.Value <= right.Value;
    public static bool operator >=(Term left, Term right) => left.Value >= right.Value;
    public override string ToString() => $"{Value}";
}

/// <summary>Index in the log of a Raft group; the first entry has 1, 0 is before it.</summary>
internal readonly record struct LogIndex(long Value) : IComparable<LogIndex>
{
    public LogIndex Next => new(Value + 1);
    public LogIndex Previous => new(Value - 1);
    public int CompareTo(LogIndex other) => Value.CompareTo(other.Value);
    public static bool operator <(LogIndex left, LogIndex right) => left.Value < right.Value;
    public static bool operator >(LogIndex left, LogIndex right) => left.Value > right.Value;
    public static bool operator <=(LogIndex left, LogIndex right) => left.Value <= right.Value;
    public static bool operator >=(LogIndex left, LogIndex right) => left.Value >= right.Value;
    public override string ToString() => $"{Value}";
}

/// <summary>A moment of the cluster's history: milliseconds &lt;&lt; 18 | counter, from the oracle (R01). 0 is before everything.</summary>
internal readonly record struct Timestamp(ulong Value) : IComparable<Timestamp>
{
    public const int CounterBits = 18;
    public static Timestamp Zero => default;
    public static Timestamp Max => new(ulong.MaxValue);
    public bool IsZero => Value == 0;
    public Timestamp Next => new(Value + 1);
    public Timestamp Previous => new(Value - 1);
    public long Milliseconds => (long)(Value >> CounterBits);
    public int CompareTo(Timestamp other) => Value.CompareTo(other.Value);
    public static Timestamp Later(Timestamp left, Timestamp right) => left.Value >= right.Value ? left : right;
    public static Timestamp Earlier(Timestamp left, Timestamp right) => left.Value <= right.Value ? left : right;
    public static bool operator <(Timestamp left, Timestamp right) => left.Value < right.Value;
    public static bool operator >(Timestamp left, Timestamp right) => left.Value > right.Value;
    public static bool operator <=(Timestamp left, Timestamp right) => left.Value <= right.Value;
    public static bool operator >=(Timestamp left, Timestamp right) => left.Value >= right.Value;
    public override string ToString() => $"{Milliseconds}.{Value & ((1UL << CounterBits) - 1)}";
}

/// <summary>Version of the shard map; a shard's epoch rises with every change of its range or replicas.</summary>
internal readonly record struct Epoch(ulong Value) : IComparable<Epoch>
{
    public int CompareTo(Epoch other) => Value.CompareTo(other.Value);
    public static bool operator <(Epoch left, Epoch right) => left.Value < right.Value;
    public static bool operator >(Epoch left, Epoch right) => left.Value > right.Value;
    public static bool operator <=(Epoch left, Epoch right) => left.Value <= right.Value;
    public static bool operator >=(Epoch left, Epoch right) => left.Value >= right.Value;
    public override string ToString() => $"{Value}";
}

/// <summary>Id of a transaction or of a request (R14, R22): random, 128 bits, 0 is none.</summary>
internal readonly record struct OperationId(ulong High, ulong Low)
{
    public const int Bytes = 16;
    public bool IsNone => High == 0 && Low == 0;
    public override string ToString() => $"{High:x16}{Low:x16}";
}
