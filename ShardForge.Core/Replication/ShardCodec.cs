using System.Buffers;

namespace ShardForge.Replication;

/// <summary>Requests and responses of a shard as bytes, for a leader on another node.</summary>
/// <remarks><code>
/// request   | version 1 | kind 1 | shard 4 | epoch 8 | body |                                    little-endian
///   get     | read at? | key | decided |
///   scan    | range | read at 8 | reverse 1 | entries max 4 | bytes max 4 | decided |
///   write   | id 16 | known timestamp 8 | flags 1 | step 1 | change 1 | age 8 | commit at 8 | prewrite? | writes | expected value? | start? | read keys | read ranges |
///   ping    | nothing |
///   validate    | id 16 | start 8 | age 8 | commit 8 | read keys | read ranges | decided |
///   transaction | question 1 | id 16 | timestamp 8 | keys |
///     flags bit 0 IsRetry, bit 1 HasCondition; bits 2-7 must be 0
///     prewrite  | primary | others | explicit 1 |
///     decided   of transactions: id 16 | commit 8, zero: aborted |
/// response  | version 1 | status 1 | leader node? | epoch 8 | message? | value? | timestamp 8 | entries | has more 1 | lock? | locked key? |
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
        Validate = 5,
        Transaction = 6,
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
            ValidateRequest => Kind.Validate,
            TransactionRequest => Kind.Transaction,
            _ => throw new ArgumentException($"A request of type {request.GetType().Name} has no encoding.", nameof(request)),
        }));
        writer.Int32(request.Shard.Value);
        writer.UInt64(request.Epoch.Value);
        switch (request)
        {
            case GetRequest get:
                writer.Optional(get.ReadAt);
                writer.Bytes(get.Key.Span);
                writer.Decided(get.Decided);
                break;
            case ScanRequest scan:
                writer.Range(scan.Range);
                writer.UInt64(scan.ReadAt.Value);
                writer.Byte(scan.Reverse ? (byte)1 : (byte)0);
                writer.Int32(scan.EntriesMax);
                writer.Int32(scan.BytesMax);
                writer.Decided(scan.Decided);
                break;
            case WriteRequest write:
                WriteBody(ref writer, write);
                break;
            case ValidateRequest validate:
                writer.Id(validate.Transaction);
                writer.UInt64(validate.Start.Value);
                writer.UInt64(validate.Age.Value);
                writer.UInt64(validate.Commit.Value);
                writer.Keys(validate.ReadKeys);
                writer.Ranges(validate.ReadRanges);
                writer.Decided(validate.Decided);
                break;
            case TransactionRequest transaction:
                writer.Byte((byte)transaction.Question);
                writer.Id(transaction.Transaction);
                writer.UInt64(transaction.Timestamp.Value);
                writer.Keys(transaction.Keys);
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
            Kind.Get => new GetRequest { Shard = shard, Epoch = epoch, ReadAt = reader.OptionalTimestamp(), Key = reader.Bytes(), Decided = reader.Decided() },
            Kind.Scan => new ScanRequest
            {
                Shard = shard,
                Epoch = epoch,
                Range = reader.Range(),
                ReadAt = reader.Timestamp(),
                Reverse = reader.Boolean(),
                EntriesMax = reader.NotNegative(),
                BytesMax = reader.NotNegative(),
                Decided = reader.Decided(),
            },
            Kind.Write => ReadWrite(ref reader, shard, epoch),
            Kind.Ping => new PingRequest { Shard = shard, Epoch = epoch },
            Kind.Validate => new ValidateRequest
            {
                Shard = shard,
                Epoch = epoch,
                Transaction = reader.Id(),
                Start = reader.Timestamp(),
                Age = reader.Timestamp(),
                Commit = reader.Timestamp(),
                ReadKeys = reader.Keys(),
                ReadRanges = reader.Ranges(),
                Decided = reader.Decided(),
            },
            Kind.Transaction => ReadTransaction(ref reader, shard, epoch),
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
        writer.OptionalBytes(response.Lock?.Encode());
        writer.OptionalBytes(response.LockedKey);
    }

    /// <exception cref="InvalidDataException">Not what <see cref="Write(IBufferWriter{byte}, ShardResponse)"/> writes.</exception>
    public static ShardResponse ReadResponse(ReadOnlySpan<byte> bytes)
    {
        ShardReader reader = new(bytes);
        CheckVersion(reader.Byte(), "response");
        ShardStatus status = (ShardStatus)reader.Byte();
        if (status is ShardStatus.None or > ShardStatus.Expired)
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
            Lock = reader.OptionalBytes() is { } bytesOfLock ? Mvcc.LockRecord.Decode(bytesOfLock) : null,
            LockedKey = reader.OptionalBytes(),
        };
        if (status is ShardStatus.Locked or ShardStatus.Expired && (response.Lock is null || response.LockedKey is null))
            throw new InvalidDataException($"A shard response of status {status} without the lock.");
        reader.End();
        return response;
    }

    private static void WriteBody(ref ShardWriter writer, WriteRequest write)
    {
        writer.Id(write.Id);
        writer.UInt64(write.KnownTimestamp.Value);
        writer.Byte((byte)((write.IsRetry ? RetryFlag : 0) | (write.HasCondition ? ConditionFlag : 0)));
        writer.Byte((byte)write.Step);
        writer.Byte((byte)write.Change);
        writer.UInt64(write.Age.Value);
        writer.UInt64(write.CommitAt.Value);
        writer.Byte(write.Prewrite is null ? (byte)0 : (byte)1);
        if (write.Prewrite is { } prewrite)
        {
            writer.Bytes(prewrite.Primary);
            writer.Count(prewrite.Others.Count);
            foreach (byte[] other in prewrite.Others)
                writer.Bytes(other);
            writer.Byte(prewrite.IsExplicit ? (byte)1 : (byte)0);
        }

        writer.Count(write.Writes.Count);
        foreach (KeyWrite keyWrite in write.Writes)
        {
            writer.Bytes(keyWrite.Key.Span);
            writer.OptionalBytes(keyWrite.Value);
        }

        writer.OptionalBytes(write.ExpectedValue);
        writer.Optional(write.Start);
        writer.Keys(write.ReadKeys);
        writer.Ranges(write.ReadRanges);
    }

    private static TransactionRequest ReadTransaction(ref ShardReader reader, ShardId shard, Epoch epoch)
    {
        TransactionQuestion question = (TransactionQuestion)reader.Byte();
        if (question is TransactionQuestion.None or > TransactionQuestion.Limit)
            throw new InvalidDataException($"A question {(byte)question} about a transaction.");
        TransactionRequest request = new() { Shard = shard, Epoch = epoch, Question = question, Transaction = reader.Id(), Timestamp = reader.Timestamp(), Keys = reader.Keys() };
        return request.Keys.Count > 0 || question == TransactionQuestion.Limit ? request : throw new InvalidDataException($"A question {question} about a transaction without a key.");
    }

    private static WriteRequest ReadWrite(ref ShardReader reader, ShardId shard, Epoch epoch)
    {
        OperationId id = reader.Id();
        Timestamp known = reader.Timestamp();
        byte flags = reader.Byte();
        if ((flags & ~(RetryFlag | ConditionFlag)) != 0)
            throw new InvalidDataException($"A write request with flags 0x{flags:X2}.");
        WriteStep step = (WriteStep)reader.Byte();
        ValueChange change = (ValueChange)reader.Byte();
        Timestamp age = reader.Timestamp(), commitAt = reader.Timestamp();
        PrewriteSpec? prewrite = null;
        if (reader.Boolean())
        {
            byte[] primary = reader.Bytes();
            byte[][] others = new byte[reader.Count(elementBytesMin: 1)][];
            for (int i = 0; i < others.Length; i++)
                others[i] = reader.Bytes();
            prewrite = new PrewriteSpec { Primary = primary, Others = others, IsExplicit = reader.Boolean() };
        }

        if (step > WriteStep.Mark || (step == WriteStep.Prewrite) != (prewrite is not null))
            throw new InvalidDataException($"A write request of step {(byte)step} {(prewrite is null ? "without" : "with")} what a prewrite has.");
        KeyWrite[] writes = new KeyWrite[reader.Count(elementBytesMin: 2)];
        for (int i = 0; i < writes.Length; i++)
            writes[i] = new KeyWrite(reader.Bytes(), reader.OptionalMemory());
        ReadOnlyMemory<byte>? expected = reader.OptionalMemory();
        Timestamp? start = reader.OptionalTimestamp();
        bool hasCondition = (flags & ConditionFlag) != 0;
        if (writes.Length == 0 ? step != WriteStep.Commit : step == WriteStep.Mark && writes.Length != 1)
            throw new InvalidDataException($"A {step} of {writes.Length} keys.");
        if (change > ValueChange.Max || (change != ValueChange.None && (hasCondition || step != WriteStep.Commit || writes.Length != 1 || writes[0].Value is null)))
            throw new InvalidDataException($"A change {(byte)change} of {writes.Length} keys.");
        if (hasCondition && (writes.Length != 1 || step != WriteStep.Commit))
            throw new InvalidDataException($"A compare-and-set of {writes.Length} keys.");
        return new WriteRequest
        {
            Shard = shard,
            Epoch = epoch,
            Id = id,
            KnownTimestamp = known,
            IsRetry = (flags & RetryFlag) != 0,
            Step = step,
            Change = change,
            Age = age,
            CommitAt = commitAt,
            Prewrite = prewrite,
            Writes = writes,
            HasCondition = hasCondition,
            ExpectedValue = expected,
            Start = start,
            ReadKeys = reader.Keys(),
            ReadRanges = reader.Ranges(),
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
