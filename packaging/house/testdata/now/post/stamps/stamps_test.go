package stamps
