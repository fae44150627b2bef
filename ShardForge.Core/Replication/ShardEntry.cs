using System.Buffers.Binary;
using ShardForge.Common;

namespace ShardForge.Replication;

/// <summary>What a command of an entry does. The numbers are for ever.</summary>
internal enum ShardCommandKind : byte
{
    None = 0,

    /// <summary>A storage batch of versions.</summary>
    Writes = 1,

    /// <summary>A storage batch that also puts or deletes locks.</summary>
    WritesWithLocks = 2,

    /// <summary>Raises the limit of history (R28); payload: timestamp 8.</summary>
    HistoryLimit = 3,
}

/// <summary>A shard's Raft entry: what a leader evaluated, as engine writes that every replica applies without looking at anything.</summary>
/// <remarks><code>
/// entry   | version 1 | reserved 1 | shard epoch 8 | closed timestamp 8 | command | command | ...
/// command | kind 1 | payload length varint | payload |                                           little-endian
///   shard epoch       under which it was evaluated (R11)
///   closed timestamp  no write at or below it comes in a later entry (R13)
/// </code>
/// An unknown version, reserved byte or kind is refused, never skipped (R42): the replica stops and says so, because one that skipped it
/// would differ from the others. The log record and frame around it carry the checksum.
/// Versions of the format: 1 (this one).</remarks>
internal static class ShardEntry
{
    public const int HeaderBytes = 18;

    private const byte Version = 1;

    /// <summary>Longest beginning of a command.</summary>
    public const int CommandHeaderBytesMax = 1 + Varint.Bytes32Max;

    public static void WriteHeader(Span<byte> target, Epoch epoch, Timestamp closed)
    {
        target[0] = Version;
        target[1] = 0;
        BinaryPrimitives.WriteUInt64LittleEndian(target[2..], epoch.Value);
        BinaryPrimitives.WriteUInt64LittleEndian(target[10..], closed.Value);
    }

    /// <returns>Bytes written.</returns>
    public static int WriteCommandHeader(Span<byte> target, ShardCommandKind kind, int payloadBytes)
    {
        target[0] = (byte)kind;
        return 1 + Varint.Write(target[1..], (uint)payloadBytes);
    }

    /// <returns>Bytes written.</returns>
    public static int WriteLimit(Span<byte> target, Timestamp limit)
    {
        int at = WriteCommandHeader(target, ShardCommandKind.HistoryLimit, sizeof(ulong));
        BinaryPrimitives.WriteUInt64LittleEndian(target[at..], limit.Value);
        return at + sizeof(ulong);
    }
}

/// <summary>Walks the commands of an entry. What a newer build wrote throws <see cref="ConfigurationException"/>, what none wrote <see cref="InvalidDataException"/>.</summary>
internal ref struct ShardEntryReader
{
    private ReadOnlySpan<byte> _rest;

    public ShardEntryReader(ReadOnlySpan<byte> entry)
    {
        if (entry.Length < ShardEntry.HeaderBytes)
            throw new InvalidDataException($"A shard entry of {entry.Length} bytes; its header has {ShardEntry.HeaderBytes}.");
        if (entry[0] != 1 || entry[1] != 0)
            throw new ConfigurationException("Version", $"A shard entry has version {entry[0]}.{entry[1]}, this build applies version 1.0. A newer build wrote it: run that one. Nothing was skipped.");
        Epoch = new(BinaryPrimitives.ReadUInt64LittleEndian(entry[2..]));
        Closed = new(BinaryPrimitives.ReadUInt64LittleEndian(entry[10..]));
        _rest = entry[ShardEntry.HeaderBytes..];
    }

    public Epoch Epoch { get; }

    public Timestamp Closed { get; }

    public ShardCommandKind Kind { get; private set; }

    public ReadOnlySpan<byte> Payload { get; private set; }

    public bool MoveNext()
    {
        if (_rest.IsEmpty)
            return false;
        Kind = (ShardCommandKind)_rest[0];
        if (Kind is < ShardCommandKind.Writes or > ShardCommandKind.HistoryLimit)
            throw new ConfigurationException("Version", $"A shard command has kind {_rest[0]}, this build applies kinds 1 to 3. A newer build wrote it: run that one. Nothing was skipped.");
        if (!Varint.TryRead(_rest[1..], out uint payloadBytes, out int lengthBytes) || payloadBytes > _rest.Length - 1 - lengthBytes)
            throw new InvalidDataException("A shard entry ends inside a command.");
        Payload = _rest.Slice(1 + lengthBytes, (int)payloadBytes);
        _rest = _rest[(1 + lengthBytes + (int)payloadBytes)..];
        if (Kind == ShardCommandKind.HistoryLimit && Payload.Length != sizeof(ulong))
            throw new InvalidDataException($"A limit of history of {Payload.Length} bytes.");
        return true;
    }

    public readonly Timestamp ReadTimestamp() => new(BinaryPrimitives.ReadUInt64LittleEndian(Payload));
}
