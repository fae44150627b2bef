using System.Runtime.CompilerServices;

namespace ShardForge.Common;

/// <summary>Goes on behind what waits in the pool's queue now: for work that is shared by all who come before it runs.</summary>
/// <remarks><c>Task.Yield</c> goes to the front of the thread's own queue, where nobody comes before.</remarks>
internal readonly struct PoolTurn : ICriticalNotifyCompletion
{
    public bool IsCompleted => false;

    public static PoolTurn Wait() => default;

    public PoolTurn GetAwaiter() => this;

    public void GetResult() { }

    public void OnCompleted(Action continuation) => ThreadPool.QueueUserWorkItem(static continuation => continuation(), continuation, preferLocal: false);

    public void UnsafeOnCompleted(Action continuation) => ThreadPool.UnsafeQueueUserWorkItem(static continuation => continuation(), continuation, preferLocal: false);
}
