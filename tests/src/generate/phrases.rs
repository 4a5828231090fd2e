//! What the services of the imagined travel platform say. `#` stands for a number, `~` for a user.

/// A service.
#[derive(Clone, Copy, Debug)]
pub struct Service {
    /// Its name.
    pub name: &'static str,
    /// The namespace that it runs in.
    pub namespace: &'static str,
}

const fn service(namespace: &'static str, name: &'static str) -> Service {
    Service { name, namespace }
}

/// The services.
pub const SERVICES: [Service; 12] = [
    service("catalog", "guides"),
    service("catalog", "places"),
    service("catalog", "rentals"),
    service("loyalty", "vouchers"),
    service("loyalty", "quests"),
    service("loyalty", "points"),
    service("chain", "nft"),
    service("chain", "blockchain-gateway"),
    service("identity", "users"),
    service("edge", "api-gateway"),
    service("payments", "billing"),
    service("edge", "notifications"),
];

/// Levels, as often as they come.
pub const LEVELS: [&str; 8] = ["info", "info", "info", "info", "debug", "debug", "warn", "error"];

/// Methods of HTTP, as often as they come.
pub const METHODS: [&str; 4] = ["GET", "GET", "POST", "PATCH"];

/// Statuses of HTTP, as often as they come.
pub const STATUSES: [u64; 8] = [200, 200, 200, 201, 204, 304, 404, 503];

/// Messages in Russian, English, Vietnamese and Thai, as JSON texts without the quotes: some hold escapes.
pub const PHRASES: [&str; 20] = [
    "Гид # принял заявку от ~, маршрут «Старый город»",
    "Ваучер # погашен, владелец ~, остаток # руб.",
    "Не удалось обновить профиль ~: попытка #",
    "Начислено # баллов за квест #, участник ~",
    "Бронь # отменена по просьбе ~",
    "Guide # confirmed a tour for ~ in # minutes",
    "Payment # authorised for ~, amount # THB",
    "Cache miss for place #, asked by ~, refreshed in # ms",
    "Upstream answered \\\"try later\\\" to ~, attempt #",
    "Webhook # delivered to ~\\nretries: #",
    "NFT # minted for ~, block #",
    "Rental # handed over to ~, deposit held",
    "Hướng dẫn viên # đã nhận yêu cầu của ~",
    "Phiếu quà # đã được dùng bởi ~, còn lại # VND",
    "Không tìm thấy địa điểm # cho ~",
    "Đã cộng # điểm cho ~ sau nhiệm vụ #",
    "ไกด์ # รับคำขอของ ~ แล้ว",
    "คูปอง # ถูกใช้โดย ~",
    "ไม่พบสถานที่ # สำหรับ ~",
    "เพิ่ม # แต้มให้ ~",
];
