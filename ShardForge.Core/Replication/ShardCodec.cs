using System.Buffers;

namespace ShardForge.Replication;

/// <summary>Requests and responses of a shard as bytes, for a leader on another node.</summary>
/// <remarks><code>
/// request   | version 1 | kind 1 | shard 4 | epoch 8 | body |                                    little-endian
///   get     | read at? | key |
///   scan    | range | read at 8 | reverse 1 | entries max 4 | bytes max 4 |
///   write   | id 16 | known timestamp 8 | flags 1 | writes | expected value? | start? | read keys | read ranges |
///   ping    | nothing |
///     flags bit 0 IsRetry, bit 1 HasCondition; bits 2-7 must be 0
/// response  | version 1 | status 1 | leader node? | epoch 8 | message? | value? | timestamp 8 | entries | has more 1 |
///
/// bytes     length varint, then the bytes            key, value, UTF-8 text
/// x?        0, or 1 and x
/// list      count varint, then the elements          writes: key and value?; entries: key and value
/// range     | start | end? |
/// </code>
/// The frame around it carries length and checksum; it is handed on in fragments where it is larger than one. Everything read is checked against what is left, so a
/// malformed one neither allocates much nor gets far: <see cref="InvalidDataException"/>. A newer version is refused by the handshake's protocol version.
/// Versions of the format: 1 (this one).</remarks>
internal static class ShardCodec
{
    private const byte Version = 1, RetryFlag = 1, ConditionFlag = 2;

    private enum Kind : byte
    {
        None = 0,
        Get = 1,
        Scan = 2,
        Write = 3,
        Ping = 4,
    }

    public static void Write(IBufferWriter<byte> target, ShardRequest request)
    {
        ShardWriter writer = new(target);
        writer.Byte(Version);
        writer.Byte((byte)(request switch
        {
            GetRequest => Kind.Get,
            ScanRequest => Kind.Scan,
            WriteRequest => Kind.Write,
            PingRequest => Kind.Ping,
            _ => throw new ArgumentException($"A request of type {request.GetType().Name} has no encoding.", nameof(request)),
        }));
        writer.Int32(request.Shard.Value);
        writer.UInt64(request.Epoch.Value);
        switch (request)
        {
            case GetRequest get:
                writer.Optional(get.ReadAt);
                writer.Bytes(get.Key.Span);
                break;
            case ScanRequest scan:
                writer.Range(scan.Range);
                writer.UInt64(scan.ReadAt.Value);
                writer.Byte(scan.Reverse ? (byte)1 : (byte)0);
                writer.Int32(scan.EntriesMax);
                writer.Int32(scan.BytesMax);
                break;
            case WriteRequest write:
                WriteBody(ref writer, write);
                break;
        }
    }

    /// <exception cref="InvalidDataException">Not what <see cref="Write(IBufferWriter{byte}, ShardRequest)"/> writes.</exception>
    public static ShardRequest ReadRequest(ReadOnlySpan<byte> bytes)
    {
        ShardReader reader = new(bytes);
        CheckVersion(reader.Byte(), "request");
        Kind kind = (Kind)reader.Byte();
        ShardId shard = new(reader.Int32());
        Epoch epoch = new(reader.UInt64());
        ShardRequest request = kind switch
        {
            Kind.Get => new GetRequest { Shard = shard, Epoch = epoch, ReadAt = reader.OptionalTimestamp(), Key = reader.Bytes() },
            Kind.Scan => new ScanRequest
            {
                Shard = shard,
                Epoch = epoch,
                Range = reader.Range(),
                ReadAt = reader.Timestamp(),
                Reverse = reader.Boolean(),
                EntriesMax = reader.NotNegative(),
                BytesMax = reader.NotNegative(),
            },
            Kind.Write => ReadWrite(ref reader, shard, epoch),
            Kind.Ping => new PingRequest { Shard = shard, Epoch = epoch },
            _ => throw new InvalidDataException($"A shard request of kind {(byte)kind}."),
        };
        reader.End();
        return request;
    }

    public static void Write(IBufferWriter<byte> target, ShardResponse response)
    {
        ShardWriter writer = new(target);
        writer.Byte(Version);
        writer.Byte((byte)response.Status);
        writer.OptionalText(response.LeaderNode);
        writer.UInt64(response.Epoch.Value);
        writer.OptionalText(response.Message);
        writer.OptionalBytes(response.Value);
        writer.UInt64(response.Timestamp.Value);
        writer.Count(response.Entries.Count);
        foreach (KeyValuePair<byte[], byte[]> entry in response.Entries)
        {
            writer.Bytes(entry.Key);
            writer.Bytes(entry.Value);
        }

        writer.Byte(response.HasMore ? (byte)1 : (byte)0);
    }

    /// <exception cref="InvalidDataException">Not what <see cref="Write(IBufferWriter{byte}, ShardResponse)"/> writes.</exception>
    public static ShardResponse ReadResponse(ReadOnlySpan<byte> bytes)
    {
        ShardReader reader = new(bytes);
        CheckVersion(reader.Byte(), "response");
        ShardStatus status = (ShardStatus)reader.Byte();
        if (status is ShardStatus.None or > ShardStatus.TimedOut)
            throw new InvalidDataException($"A shard response of status {(byte)status}.");
        ShardResponse response = new()
        {
            Status = status,
            LeaderNode = reader.OptionalText(),
            Epoch = new(reader.UInt64()),
            Message = reader.OptionalText(),
            Value = reader.OptionalBytes(),
            Timestamp = reader.Timestamp(),
            Entries = ReadEntries(ref reader),
            HasMore = reader.Boolean(),
        };
        reader.End();
        return response;
    }

    private static void WriteBody(ref ShardWriter writer, WriteRequest write)
    {
        writer.UInt64(write.Id.High);
        writer.UInt64(write.Id.Low);
        writer.UInt64(write.KnownTimestamp.Value);
        writer.Byte((byte)((write.IsRetry ? RetryFlag : 0) | (write.HasCondition ? ConditionFlag : 0)));
        writer.Count(write.Writes.Count);
        foreach (KeyWrite keyWrite in write.Writes)
        {
            writer.Bytes(keyWrite.Key.Span);
            writer.OptionalBytes(keyWrite.Value);
        }

        writer.OptionalBytes(write.ExpectedValue);
        writer.Optional(write.Start);
        writer.Count(write.ReadKeys.Count);
        foreach (ReadOnlyMemory<byte> key in write.ReadKeys)
            writer.Bytes(key.Span);
        writer.Count(write.ReadRanges.Count);
        foreach (KeyRange range in write.ReadRanges)
            writer.Range(range);
    }

    private static WriteRequest ReadWrite(ref ShardReader reader, ShardId shard, Epoch epoch)
    {
        OperationId id = new(reader.UInt64(), reader.UInt64());
        Timestamp known = reader.Timestamp();
        byte flags = reader.Byte();
        if ((flags & ~(RetryFlag | ConditionFlag)) != 0)
            throw new InvalidDataException($"A write request with flags 0x{flags:X2}.");
        KeyWrite[] writes = new KeyWrite[reader.Count(elementBytesMin: 2)];
        for (int i = 0; i < writes.Length; i++)
            writes[i] = new KeyWrite(reader.Bytes(), reader.OptionalMemory());
        ReadOnlyMemory<byte>? expected = reader.OptionalMemory();
        Timestamp? start = reader.OptionalTimestamp();
        ReadOnlyMemory<byte>[] readKeys = new ReadOnlyMemory<byte>[reader.Count(elementBytesMin: 1)];
        for (int i = 0; i < readKeys.Length; i++)
            readKeys[i] = reader.Bytes();
        KeyRange[] readRanges = new KeyRange[reader.Count(elementBytesMin: 2)];
        for (int i = 0; i < readRanges.Length; i++)
            readRanges[i] = reader.Range();
        bool hasCondition = (flags & ConditionFlag) != 0;
        if (hasCondition && writes.Length != 1)
            throw new InvalidDataException($"A compare-and-set of {writes.Length} keys.");
        return new WriteRequest
        {
            Shard = shard,
            Epoch = epoch,
            Id = id,
            KnownTimestamp = known,
            IsRetry = (flags & RetryFlag) != 0,
            Writes = writes,
            HasCondition = hasCondition,
            ExpectedValue = expected,
            Start = start,
            ReadKeys = readKeys,
            ReadRanges = readRanges,
        };
    }

    private static KeyValuePair<byte[], byte[]>[] ReadEntries(ref ShardReader reader)
    {
        KeyValuePair<byte[], byte[]>[] entries = new KeyValuePair<byte[], byte[]>[reader.Count(elementBytesMin: 2)];
        for (int i = 0; i < entries.Length; i++)
            entries[i] = new(reader.Bytes(), reader.Bytes());
        return entries;
    }

    private static void CheckVersion(byte version, string what)
    {
        if (version != Version)
            throw new InvalidDataException($"A shard {what} of version {version}; this build reads version {Version}.");
    }
}
