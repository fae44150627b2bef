using System.Diagnostics.CodeAnalysis;

namespace ShardForge.Storage;

/// <summary>The checks of arguments that all engines share, so that all of them refuse the same with the same words.</summary>
internal static class StorageArguments
{
    internal const string KeyLimit = "StorageEngine.KeyBytes", ValueLimit = "StorageEngine.ValueBytes";

    public static void CheckKey(ReadOnlySpan<byte> key)
    {
        if (key.Length > StorageBatch.KeyBytesMax)
            ThrowKeyTooLong(key, StorageBatch.KeyBytesMax);
    }

    /// <summary>A bound of a range, or the target of a seek: may be one byte longer, for the key itself with a zero behind it.</summary>
    public static void CheckBound(ReadOnlySpan<byte> bound)
    {
        if (bound.Length > StorageBatch.KeyBytesMax + 1)
            ThrowKeyTooLong(bound, StorageBatch.KeyBytesMax + 1);
    }

    public static void CheckRange(KeyRange range)
    {
        CheckBound(range.Start.Span);
        CheckBound(range.End.Span);
    }

    public static void CheckValue(int valueBytes)
    {
        if (valueBytes > StorageBatch.ValueBytesMax)
        {
            throw new LimitExceededException(ValueLimit, StorageBatch.ValueBytesMax, valueBytes,
                $"Value of {valueBytes:N0} bytes is over the limit of {StorageBatch.ValueBytesMax:N0} ({ValueLimit}). Nothing was written.");
        }
    }

    /// <summary>The arguments of a version read.</summary>
    public static void CheckVersion(ReadOnlySpan<byte> key, int suffixBytes, Span<byte> suffix)
    {
        CheckKey(key);
        ArgumentOutOfRangeException.ThrowIfNegative(suffixBytes);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(suffixBytes, key.Length);
        if (suffix.Length < suffixBytes)
            throw new ArgumentException($"The target for the version suffix has {suffix.Length:N0} bytes, it needs {suffixBytes:N0}.", nameof(suffix));
    }

    [DoesNotReturn]
    private static void ThrowKeyTooLong(ReadOnlySpan<byte> key, int keyBytesMax) =>
        throw new LimitExceededException(KeyLimit, keyBytesMax, key.Length,
            $"Key of {key.Length:N0} bytes is over the limit of {keyBytesMax:N0} ({KeyLimit}); it starts {Convert.ToHexString(key[..8])}. Nothing was written.");
}
