namespace ShardForge.Metadata;

/// <summary>What a replica's log says of the replica: enough to open it before the metadata group is reachable.</summary>
/// <remarks><code>
/// descriptor | version 1 | shard id varint | first slot 2 | last slot 2 | epoch varint |        little-endian
/// </code>
/// Slots and epoch are those of the replica's creation; later ones are in its own state. The log's record carries the checksum.
/// <para>Versions of the format: 1 (this one).</para></remarks>
internal readonly record struct ReplicaDescriptor(ShardId Shard, SlotRange Slots, Epoch Epoch)
{
    private const byte FormatVersion = 1;

    public byte[] Encode() => new MetadataWriter()
        .Byte(FormatVersion).Number(Shard.Value).UInt16(Slots.First).UInt16(Slots.Last).Number(Epoch.Value).ToArray();

    /// <summary>Reads what <see cref="Encode"/> wrote; <see cref="InvalidDataException"/> for anything else.</summary>
    public static ReplicaDescriptor Decode(ReadOnlySpan<byte> bytes)
    {
        MetadataReader reader = new(bytes);
        byte version = reader.Byte();
        if (version != FormatVersion)
            throw new InvalidDataException($"A replica descriptor of version {version}; this build reads version {FormatVersion}.");
        ReplicaDescriptor descriptor = new(new ShardId(reader.Int32()), new SlotRange(reader.UInt16(), reader.UInt16()), new Epoch(reader.Number()));
        reader.ExpectEnd();
        return descriptor;
    }
}
