using System.Buffers.Binary;

namespace ShardForge.Replication;

/// <summary>How a leader changes a value (atomic read-modify-write). They travel.</summary>
internal enum ValueChange : byte
{
    None = 0,

    /// <summary>Adds a number; an absent key counts as 0. Numbers are 8 bytes, little-endian, signed; they wrap around.</summary>
    Add = 1,

    /// <summary>Puts bytes behind the value; an absent key counts as empty.</summary>
    Append = 2,

    /// <summary>The smaller of the value and a number; an absent key takes the number.</summary>
    Min = 3,

    /// <summary>The larger of the value and a number; an absent key takes the number.</summary>
    Max = 4,
}

/// <summary>Computes changed values. Pure.</summary>
internal static class ValueChanges
{
    /// <returns>False: the value is no number, or would be too long; <paramref name="why"/> says so.</returns>
    public static bool TryApply(ValueChange change, byte[]? present, ReadOnlySpan<byte> operand, int valueBytesMax, out byte[] changed, out string? why)
    {
        changed = [];
        why = null;
        if (change == ValueChange.Append)
        {
            long bytes = (present?.Length ?? 0) + (long)operand.Length;
            if (bytes > valueBytesMax)
            {
                why = $"The value would have {bytes:N0} bytes, over the limit of {valueBytesMax:N0} (Limits.ValueBytesMax).";
                return false;
            }

            changed = [.. present ?? [], .. operand];
            return true;
        }

        if (operand.Length != sizeof(long) || present is { Length: not sizeof(long) })
        {
            why = $"A number has 8 bytes; the value has {present?.Length ?? 0}, the operand {operand.Length}.";
            return false;
        }

        long number = BinaryPrimitives.ReadInt64LittleEndian(operand);
        long result = number;
        if (present is not null)
        {
            long value = BinaryPrimitives.ReadInt64LittleEndian(present);
            result = change switch { ValueChange.Add => unchecked(value + number), ValueChange.Min => Math.Min(value, number), _ => Math.Max(value, number) };
        }

        changed = new byte[sizeof(long)];
        BinaryPrimitives.WriteInt64LittleEndian(changed, result);
        return true;
    }
}
